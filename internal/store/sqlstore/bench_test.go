package sqlstore

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/tinefn/tine/model"
)

// clients is how many benchmarks run at a time.
const clients = 16

func setClients(b *testing.B) {
	b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
}

func BenchmarkInsertFn(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "fn.db"))
	app := insertApp(b, s, "app")
	setClients(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.InsertFn(context.Background(), &model.Fn{Name: model.NewID(), AppID: app.ID, Image: "image"}); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkFnByID(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "fn.db"))
	fn, err := s.InsertFn(context.Background(), &model.Fn{Name: "fn", AppID: insertApp(b, s, "app").ID, Image: "image"})
	if err != nil {
		b.Fatal(err)
	}
	setClients(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.FnByID(context.Background(), fn.ID); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkListFns10000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "fn.db")
	s := open(b, path)
	app := insertApp(b, s, "app")
	tx, err := s.write.Begin()
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		if _, err := tx.Exec("INSERT INTO fns ("+fnColumns+") VALUES (?, ?, ?, 'image', 128, 30, 30, '{\"KEY\":\"value\"}', '', '', ?, ?)",
			model.NewID(), fmt.Sprintf("fn%05d", i), app.ID, model.Now().String(), model.Now().String()); err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	for _, perPage := range []int{model.MaxPerPage, 0} {
		b.Run(fmt.Sprintf("per_page=%d", perPage), func(b *testing.B) {
			for b.Loop() {
				page, err := s.ListFns(context.Background(), model.FnFilter{
					AppID: app.ID, Page: model.PageRequest{Cursor: model.Position{Name: "fn05000"}.Cursor(), PerPage: perPage},
				})
				if err != nil || len(page.Items) != 4999 && len(page.Items) != perPage {
					b.Fatal(len(page.Items), err)
				}
			}
		})
	}
}
