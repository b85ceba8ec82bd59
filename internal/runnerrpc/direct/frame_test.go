package direct

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// piped is a connection that is read from one side and written to the other.
type piped struct {
	net.Conn
	io.Reader
	io.Writer
}

func (p piped) Read(b []byte) (int, error)  { return p.Reader.Read(b) }
func (p piped) Write(b []byte) (int, error) { return p.Writer.Write(b) }

func reading(r io.Reader, limit int) *framed {
	f := newFramed(piped{Reader: r, Writer: io.Discard}, limit)
	return &f
}

func TestFramesAreReadAsTheyAreWritten(t *testing.T) {
	const limit = 3 * readBuffer
	sizes := []int{0, 1, 2, readBuffer - headBytes - 1, readBuffer - headBytes, readBuffer - headBytes + 1, readBuffer, 2 * readBuffer, limit - 1, 0}
	var wire bytes.Buffer
	w := newFramed(piped{Writer: &wire}, limit)
	for i, size := range sizes {
		content := bytes.Repeat([]byte{byte(i)}, size)
		if i%2 == 0 {
			w.add(byte(i), content)
		} else if n := w.addWith(byte(i), func(b []byte) []byte { return append(b, content...) }); n != size {
			t.Errorf("%d bytes were added, not %d", n, size)
		}
	}
	length := len(w.out)
	if n, err := w.flush(); n != length || err != nil || wire.Len() != length || len(w.out) != 0 || cap(w.out) > keptBuffer {
		t.Error(n, err, wire.Len(), len(w.out), cap(w.out))
	}
	if n, err := w.flush(); n != 0 || err != nil || wire.Len() != length {
		t.Error(n, err)
	}
	for name, r := range map[string]io.Reader{
		"at once": bytes.NewReader(wire.Bytes()), "byte by byte": iotest.OneByteReader(bytes.NewReader(wire.Bytes())),
		"with the end": iotest.DataErrReader(bytes.NewReader(wire.Bytes())),
	} {
		f := reading(r, limit)
		for i, size := range sizes {
			if err := f.await(); err != nil {
				t.Fatal(name, err)
			}
			kind, content, err := f.next()
			if err != nil || kind != byte(i) || !bytes.Equal(content, bytes.Repeat([]byte{byte(i)}, size)) {
				t.Fatalf("%s: frame %d is of %d bytes, %v", name, i, len(content), err)
			}
		}
		if _, _, err := f.next(); err != io.EOF { //nolint:errorlint // it is told from others by that
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNoFrameIsRefused(t *testing.T) {
	long := append([]byte{0, 0, 0x40, 0, 'd'}, make([]byte, 0x3ffe)...) // one byte is missing
	for name, of := range map[string]struct {
		wire []byte
		want error
	}{
		"nothing":                 {nil, io.EOF},
		"a head that is cut":      {[]byte{0, 0, 0, 1}, io.ErrUnexpectedEOF},
		"a frame that is cut":     {[]byte{0, 0, 0, 3, 'd', 'x'}, io.ErrUnexpectedEOF},
		"no content of a frame":   {[]byte{0, 0, 0, 3, 'd'}, io.ErrUnexpectedEOF},
		"a long frame that's cut": {long, io.ErrUnexpectedEOF},
		"only a long one's head":  {long[:headBytes], io.ErrUnexpectedEOF},
		"no kind":                 {[]byte{0, 0, 0, 0, 'd'}, errFrame},
		"one that is too long":    {[]byte{0, 0, 0x40, 1, 'd'}, errFrame},
		"one far too long":        {[]byte{0xff, 0xff, 0xff, 0xff, 'd'}, errFrame},
	} {
		f := reading(bytes.NewReader(of.wire), 0x4000)
		if kind, content, err := f.next(); !errors.Is(err, of.want) || kind != 0 || content != nil {
			t.Errorf("%s: got %v, %q, %v", name, kind, content, err)
		}
	}
	// What breaks a connection is told as it is.
	broken := errors.New("broken")
	for _, sent := range [][]byte{nil, {0, 0}, {0, 0, 0, 3, 'd'}, long} {
		f := reading(io.MultiReader(bytes.NewReader(sent), iotest.ErrReader(broken)), 0x4000)
		if _, _, err := f.next(); !errors.Is(err, broken) {
			t.Error(len(sent), err)
		}
	}
}

// in reads so many bytes at a time.
type in struct {
	io.Reader
	size int
}

func (i in) Read(p []byte) (int, error) { return i.Reader.Read(p[:min(len(p), i.size)]) }

// FuzzFrames reads what a peer may send, and what was written.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01p\x00\x00\x00\x03dab"), uint16(3), uint8('d'))
	f.Add([]byte("\x00\x00\x00\x00p"), uint16(1), uint8(0))
	f.Add([]byte("\x00\x00\x20\x01dabc"), uint16(100), uint8('e'))
	f.Add([]byte("\xff\xff\xff\xffd"), uint16(5), uint8('e'))
	f.Add(append([]byte{0, 0, 0x24, 0, 'd'}, make([]byte, 0x2400)...), uint16(4000), uint8('x'))
	f.Fuzz(func(t *testing.T, raw []byte, size uint16, kind uint8) {
		const limit = 10 << 10 // more than there is room for at once
		from := reading(in{bytes.NewReader(raw), int(size) + 1}, limit)
		again := reading(bytes.NewReader(nil), limit)
		for {
			kind, content, err := from.next()
			if err == nil {
				if len(content) >= limit || cap(content) > max(limit, readBuffer) {
					t.Fatalf("content of %d bytes, in %d", len(content), cap(content))
				}
				again.add(kind, content)
				continue
			}
			// What was read is what was sent, and what follows deserves its error.
			if !bytes.HasPrefix(raw, again.out) {
				t.Fatal("something else was sent")
			}
			rest := raw[len(again.out):]
			var want error
			switch {
			case len(rest) == 0:
				want = io.EOF
			case len(rest) < headBytes:
				want = io.ErrUnexpectedEOF
			case binary.BigEndian.Uint32(rest) == 0 || binary.BigEndian.Uint32(rest) > limit:
				want = errFrame
			default:
				want = io.ErrUnexpectedEOF
			}
			if !errors.Is(err, want) {
				t.Fatalf("got %v, want %v", err, want)
			}
			break
		}

		var wire bytes.Buffer
		to := newFramed(piped{Writer: &wire}, limit)
		content := raw[:min(len(raw), limit-1)]
		to.add(kind, content)
		to.addWith(kind+1, func(b []byte) []byte { return append(b, content...) })
		if _, err := to.flush(); err != nil {
			t.Fatal(err)
		}
		back := reading(in{&wire, int(size) + 1}, limit)
		for _, want := range []byte{kind, kind + 1} {
			if kind, got, err := back.next(); kind != want || !bytes.Equal(got, content) || err != nil {
				t.Fatalf("got %v, %d of %d bytes, %v", kind, len(got), len(content), err)
			}
		}
		if _, _, err := back.next(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}

// FuzzEnd reads the end of a stream as a runner may send it.
func FuzzEnd(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 8, 'n', 'o'})
	f.Add([]byte{2, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, content []byte) {
		reusable, end := readEnd(content)
		switch {
		case end == nil:
			t.Fatal("the stream goes on")
		case len(content) < endBytes:
			if reusable || status.Code(end) != codes.Internal {
				t.Fatal(reusable, end)
			}
			return
		case reusable != (content[0] == 1):
			t.Fatal("the connection is", reusable)
		}
		if errors.Is(end, io.EOF) {
			if !bytes.Equal(content[1:endBytes], make([]byte, 4)) {
				t.Fatal("it has ended in order")
			}
			end = nil
		} else if st := status.Convert(end); uint32(st.Code()) != binary.BigEndian.Uint32(content[1:]) || st.Message() != string(content[endBytes:]) {
			t.Fatal(end)
		}
		// What is written of it is read as the same.
		w := reading(bytes.NewReader(nil), maxFrame)
		w.addEnd(reusable, end)
		r := reading(bytes.NewReader(w.out), maxFrame)
		kind, written, err := r.next()
		if err != nil || kind != kindEnd {
			t.Fatal(kind, err)
		}
		againReusable, again := readEnd(written)
		if a, b := status.Convert(again), status.Convert(end); againReusable != reusable || end != nil && (a.Code() != b.Code() || a.Message() != b.Message()) || end == nil && !errors.Is(again, io.EOF) {
			t.Fatal(againReusable, again)
		}
	})
}
