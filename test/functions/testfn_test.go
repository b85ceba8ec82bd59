package functions

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestArchiveOfTheTestFunctionHasBothNames(t *testing.T) {
	made, err := TestFn()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{made.Ref, made.Other} {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		image, err := tarball.ImageFromPath(made.File, &tag)
		if err != nil {
			t.Fatal(err)
		}
		file, err := image.ConfigFile()
		if err != nil || len(file.Config.Entrypoint) != 1 || file.Config.Entrypoint[0] != "/function/func" {
			t.Errorf("%s starts %v, %v", ref, file, err)
		}
	}
	again, err := TestFn()
	if err != nil || again != made {
		t.Errorf("the second time: %v, %v", again, err)
	}
}
