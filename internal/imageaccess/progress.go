package imageaccess

import (
	"log/slog"
	"sync"
	"time"
)

// progressEvery is how often a pull that takes long says how far it is.
const progressEvery = 10 * time.Second

// Progress is how far a pull is.
type Progress struct {
	Layers, LayersDone int
	Bytes, BytesDone   int64 // of the layers whose size is known
}

// LogProgress logs from time to time how far a pull is, until stop is called,
// which returns when nothing is logged any more.
func LogProgress(log *slog.Logger, now func() Progress) (stop func()) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p := now()
				log.Info("image is being pulled", slog.Int("layers_done", p.LayersDone), slog.Int("layers", p.Layers),
					slog.Int64("bytes_done", p.BytesDone), slog.Int64("bytes", p.Bytes))
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
