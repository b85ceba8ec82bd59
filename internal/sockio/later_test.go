//go:build unix

package sockio

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// silent fails if something comes.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(moment))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("something has come", n, err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
}

// eventually waits for what takes a moment.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + " takes too long")
		}
	}
}

func TestWhatIsWrittenLaterGoesOutWithTheNextRead(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		for range 2 {
			ours.WriteLater([]byte("ask"))
			if n := ours.Unwritten(); n != 3 {
				t.Errorf("%d bytes are unwritten", n)
			}
			silent(t, theirs)
			answer := begin(t, ours.Read, make([]byte, 10))
			if got := take(t, theirs, 3); string(got) != "ask" {
				t.Fatalf("got %q", got)
			}
			theirs.Write([]byte("answer"))
			if r := <-answer; r.n != 6 || r.err != nil || ours.Unwritten() != 0 {
				t.Error(r.n, r.err, ours.Unwritten())
			}
			// The Read after that writes nothing.
			answer = begin(t, ours.Read, make([]byte, 10))
			silent(t, theirs)
			theirs.Write([]byte("more"))
			if r := <-answer; r.n != 4 || r.err != nil {
				t.Error(r.n, r.err)
			}
		}
	})
}

func TestMuchIsWrittenLater(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		ours.WriteLater(text(many))
		answer := begin(t, ours.Read, make([]byte, 10))
		if got := take(t, theirs, many); !bytes.Equal(got, text(many)) {
			t.Error("something else has come")
		}
		silent(t, theirs)
		theirs.Write([]byte("answer"))
		if r := <-answer; r.n != 6 || r.err != nil || ours.Unwritten() != 0 {
			t.Error(r.n, r.err, ours.Unwritten())
		}
	})
}

// An answer that comes before the last of the question has gone out is not missed.
func TestAnswerInTheMiddleOfWhatIsWrittenLaterIsRead(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		ours.WriteLater(text(many))
		answer := begin(t, ours.Read, make([]byte, 10))
		take(t, theirs, 1)
		theirs.Write([]byte("no"))
		if got := take(t, theirs, many-1); !bytes.Equal(got, text(many)[1:]) {
			t.Error("something else has come")
		}
		if r := <-answer; r.n != 2 || r.err != nil {
			t.Error(r.n, r.err)
		}
	})
}

// Both sides read what the other one writes only then: a wakeup that is missed would be
// seen as a deadline that passes.
func TestNoAnswerIsMissed(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		const rounds = 2000
		var echo sync.WaitGroup
		echo.Go(func() {
			other, got := New(theirs).(*Conn), make([]byte, 2)
			for range rounds {
				n, err := other.Read(got)
				if err != nil {
					t.Error(err)
					return
				}
				other.WriteLater(bytes.Clone(got[:n]))
			}
			if n, err := other.Read(got); n != 0 || !errors.Is(err, io.EOF) {
				t.Error(n, err)
			}
		})
		got := make([]byte, 2)
		for round := range rounds {
			ours.WriteLater([]byte{byte(round)})
			if n, err := ours.Read(got); n != 1 || err != nil || got[0] != byte(round) {
				t.Errorf("round %d: %d, %v, %v", round, n, err, got[0])
				break
			}
		}
		ours.Close()
		echo.Wait()
	})
}

func TestReadTellsWhyWhatIsWrittenLaterWasNot(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		ours.Write([]byte("ab"))
		take(t, theirs, 1)
		theirs.Close() // with something unread
		eventually(t, "the reset", func() bool { return !ours.IsQuiet() })
		ours.WriteLater(text(1000))
		n, err := ours.Read(make([]byte, 10))
		if n != 0 || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Error(n, err)
		}
		if n := ours.Unwritten(); n != 1000 {
			t.Errorf("%d bytes are unwritten", n)
		}
	})
}

func TestWhatIsLeftOfWhatIsWrittenLaterIsKnown(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		ours.WriteLater(text(many))
		answer := begin(t, ours.Read, make([]byte, 10))
		read := many / 2
		take(t, theirs, read)
		theirs.Close()
		if r := <-answer; r.n != 0 || !errors.Is(r.err, syscall.ECONNRESET) && !errors.Is(r.err, syscall.EPIPE) {
			t.Error(r.n, r.err)
		}
		if n := ours.Unwritten(); n == 0 || n > many-read {
			t.Errorf("%d bytes are unwritten, of %d", n, many-read)
		}
	})
}

func TestNothingIsWrittenLaterAfterADeadlineOrClose(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		ours.WriteLater([]byte("ask"))
		ours.SetReadDeadline(time.Unix(1, 0))
		if n, err := ours.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || ours.Unwritten() != 3 {
			t.Error(n, err, ours.Unwritten())
		}
		silent(t, theirs)
		ours.SetReadDeadline(time.Time{})
		answer := begin(t, ours.Read, make([]byte, 10))
		if got := take(t, theirs, 3); string(got) != "ask" {
			t.Errorf("got %q", got)
		}
		theirs.Write([]byte("x"))
		<-answer
		ours.WriteLater([]byte("again"))
		ours.Close()
		if n, err := ours.Read(make([]byte, 10)); n != 0 || !errors.Is(err, net.ErrClosed) || ours.Unwritten() != 5 {
			t.Error(n, err, ours.Unwritten())
		}
		if rest, err := io.ReadAll(theirs); len(rest) != 0 || err != nil {
			t.Error(rest, err)
		}
	})
}

func TestWriteNowDoesNotWait(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		all := text(many)
		written := 0
		eventually(t, "filling the socket", func() bool { // that of TCP empties itself into the other one
			n, err := ours.WriteNow(all[written:])
			if err != nil || n < 0 || n >= many {
				t.Fatal(n, err)
			}
			written += n
			return n == 0
		})
		if written == 0 {
			t.Fatal("nothing was written")
		}
		if got := take(t, theirs, written); !bytes.Equal(got, all[:written]) {
			t.Error("something else has come")
		}
		eventually(t, "getting room again", func() bool {
			n, err := ours.WriteNow([]byte("more"))
			if err != nil {
				t.Fatal(err)
			}
			return n == 4
		})
	})
}

func TestConnectionIsQuietAsLongAsItIsOpenAndEmpty(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		for range 2 {
			if !ours.IsQuiet() {
				t.Fatal("it is not quiet at first")
			}
			theirs.Write([]byte("x"))
			eventually(t, "what came", func() bool { return !ours.IsQuiet() })
			if got := take(t, ours, 1); got[0] != 'x' { // looking has not taken it
				t.Errorf("got %q", got)
			}
		}
		if !ours.IsQuiet() {
			t.Error("it is not quiet when all was read")
		}
		theirs.Close()
		eventually(t, "the end", func() bool { return !ours.IsQuiet() })
		ours.Close()
		if ours.IsQuiet() {
			t.Error("it is quiet when it is closed")
		}
	})
}

// BenchmarkEcho is a question and its answer, both on the same kind of connection.
func BenchmarkEcho(b *testing.B) {
	kinds := []struct {
		name string
		of   func(net.Conn) net.Conn
		send func(net.Conn, []byte) error
	}{
		{"Net", func(c net.Conn) net.Conn { return c }, write},
		{"Sockio", New, write},
		{"Later", New, func(c net.Conn, p []byte) error { c.(*Conn).WriteLater(p); return nil }},
	}
	for _, network := range []string{"tcp", "unix"} {
		for _, kind := range kinds {
			b.Run(network+"/"+kind.name, func(b *testing.B) {
				ours, theirs := pair(b, network)
				one, other := kind.of(ours.NetConn()), kind.of(theirs)
				if err := errors.Join(one.SetDeadline(time.Time{}), other.SetDeadline(time.Time{})); err != nil {
					b.Fatal(err)
				}
				var echo sync.WaitGroup
				echo.Go(func() {
					p := make([]byte, 1024)
					for {
						n, err := other.Read(p)
						if err != nil || kind.send(other, p[:n]) != nil {
							return
						}
					}
				})
				p, got := text(512), make([]byte, 1024)
				b.ReportAllocs()
				for b.Loop() {
					if err := kind.send(one, p); err != nil {
						b.Fatal(err)
					}
					if _, err := one.Read(got); err != nil {
						b.Fatal(err)
					}
				}
				one.Close()
				echo.Wait()
			})
		}
	}
}

func write(c net.Conn, p []byte) error {
	_, err := c.Write(p)
	return err
}
