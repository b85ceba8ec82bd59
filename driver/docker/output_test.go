package docker

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/moby/moby/api/pkg/stdcopy"
)

func TestDemultiplexPassesOnAtOnce(t *testing.T) {
	stream, engine := io.Pipe()
	arrived := make(chan string)
	done := make(chan error)
	go func() {
		done <- demultiplex(bufio.NewReaderSize(stream, 16), writerFunc(func(p []byte) { arrived <- "out " + string(p) }),
			writerFunc(func(p []byte) { arrived <- "err " + string(p) }))
	}()
	send := func(p string) {
		if _, err := io.WriteString(engine, p); err != nil {
			t.Error(err)
		}
	}
	expect := func(want string) {
		if got := <-arrived; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	send("\x01\x00\x00\x00\x00\x00\x00\x05")
	send("he")
	expect("out he")
	send("llo")
	expect("out llo")
	send("\x02\x00\x00\x00\x00\x00\x00\x01!")
	expect("err !")
	engine.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func TestDemultiplexOfBrokenStreams(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		want   error
	}{
		"in a header": {"\x01\x00\x00", io.ErrUnexpectedEOF},
		"in a frame":  {"\x01\x00\x00\x00\x00\x00\x00\x05he", io.ErrUnexpectedEOF},
		"no frame":    {"", nil},
		"empty frame": {"\x01\x00\x00\x00\x00\x00\x00\x00", nil},
	} {
		if err := demultiplex(bufio.NewReader(bytes.NewBufferString(test.stream)), io.Discard, io.Discard); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if err := demultiplex(bufio.NewReader(bytes.NewBufferString("\x03\x00\x00\x00\x00\x00\x00\x04oops")), io.Discard, io.Discard); err == nil {
		t.Error("the engine's own error is none")
	}
}

// The library says what the frames mean. Sizes are of whole frames and where
// the stream is cut off; contents are pieces of text.
func FuzzDemultiplex(f *testing.F) {
	f.Add([]byte{1, 5, 2, 1, 1, 200, 0, 3}, "some text", 1000)
	f.Add([]byte{2, 5, 3, 4, 1, 1}, "some text", 1000)
	f.Add([]byte{1, 0, 1, 9, 2, 9}, "some text", 20)
	f.Fuzz(func(t *testing.T, frames []byte, text string, cut int) {
		var whole []byte
		for i := 0; i+1 < len(frames) && text != ""; i += 2 {
			size := int(frames[i+1])
			whole = append(whole, frames[i]%5, 0, 0, 0, 0, 0, 0, byte(size))
			for j := range size {
				whole = append(whole, text[j%len(text)])
			}
		}
		stream := whole[:min(max(cut, 0), len(whole))]
		var wantOut, wantErr, gotOut, gotErr bytes.Buffer
		_, libraryErr := stdcopy.StdCopy(&wantOut, &wantErr, bytes.NewReader(stream))
		err := demultiplex(bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(stream)), 16), &gotOut, &gotErr)
		switch {
		case libraryErr != nil && err == nil:
			t.Errorf("no error, want %v", libraryErr)
		case err != nil && len(stream) < len(whole):
			// The library says nothing of a frame that does not end, and holds it back.
			if !bytes.HasPrefix(gotOut.Bytes(), wantOut.Bytes()) || !bytes.HasPrefix(gotErr.Bytes(), wantErr.Bytes()) {
				t.Errorf("%q and %q, want a longer %q and %q", &gotOut, &gotErr, &wantOut, &wantErr)
			}
		case err != nil && libraryErr == nil:
			t.Error(err)
		case !bytes.Equal(gotOut.Bytes(), wantOut.Bytes()) || !bytes.Equal(gotErr.Bytes(), wantErr.Bytes()):
			t.Errorf("%q and %q, want %q and %q", &gotOut, &gotErr, &wantOut, &wantErr)
		}
	})
}
