package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/tinefn/tine/driver"
)

// The image of placeholders is made here and loaded into the engine, so that
// nothing has to be pulled. It holds one program, which sleeps until it is
// killed: a page of machine code in the smallest file that the kernel executes.

// pausePath is the program in the image.
const pausePath = "/pause"

// pauseCode is the program, by the engine's name of the processor.
var pauseCode = map[string]struct {
	goarch  string
	machine uint16 // e_machine of the ELF header
	code    []byte
}{
	"x86_64": {"amd64", 62, []byte{
		0xb8, 34, 0, 0, 0, // mov eax, 34: pause
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp to the first
	}},
	"aarch64": {"arm64", 183, binary.LittleEndian.AppendUint32(words(
		0xd2800000, // mov x0, 0: no descriptors
		0xd2800001, // mov x1, 0
		0xd2800002, // mov x2, 0: no timeout
		0xd2800003, // mov x3, 0: no signal mask
		0xd2800928, // mov x8, 73: ppoll
		0xd4000001, // svc 0
	), 0x17fffffa)}, // b to the first
}

func words(list ...uint32) (code []byte) {
	for _, word := range list {
		code = binary.LittleEndian.AppendUint32(code, word)
	}
	return code
}

// The parts of an ELF file of 64 bits, see elf(5).
const (
	elfHeaderSize  = 64
	elfSegmentSize = 56
	elfBase        = 0x400000 // where the file is mapped
	elfPage        = 0x10000  // the largest page size of these processors
)

// pauseProgram is the program for a processor.
func pauseProgram(machine uint16, code []byte) []byte {
	const headers = elfHeaderSize + elfSegmentSize
	size := uint64(headers + len(code))
	var b bytes.Buffer
	for _, field := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, // 64 bits, little endian, version 1
		uint16(2), machine, uint32(1),          // an executable
		uint64(elfBase + headers), uint64(elfHeaderSize), uint64(0), uint32(0), // entry, segments, no sections
		uint16(elfHeaderSize), uint16(elfSegmentSize), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), // a segment to load, readable and executable
		uint64(elfBase), uint64(elfBase), size, size, uint64(elfPage),
	} {
		_ = binary.Write(&b, binary.LittleEndian, field) // a buffer takes everything
	}
	b.Write(code)
	return b.Bytes()
}

// pauseImage is the image for a processor.
func pauseImage(architecture string) (v1.Image, name.Tag, error) {
	pause, ok := pauseCode[architecture]
	if !ok {
		return nil, name.Tag{}, fmt.Errorf("there is no built-in image for processors of kind %q: set FN_PREFORK_IMAGE to one whose command sleeps", architecture)
	}
	program := pauseProgram(pause.machine, pause.code)
	hash := sha256.Sum256(program)
	tag, err := name.NewTag("tine/pause:" + hex.EncodeToString(hash[:6]))
	if err != nil {
		return nil, name.Tag{}, err
	}
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	err = archive.WriteHeader(&tar.Header{Name: pausePath[1:], Mode: 0o555, Size: int64(len(program))})
	if err == nil {
		_, err = archive.Write(program)
	}
	if err = errors.Join(err, archive.Close()); err != nil {
		return nil, name.Tag{}, err
	}
	files, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, name.Tag{}, err
	}
	image, err := mutate.AppendLayers(empty.Image, files)
	if err != nil {
		return nil, name.Tag{}, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, name.Tag{}, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", pause.goarch
	config.Config.Entrypoint = []string{pausePath}
	image, err = mutate.ConfigFile(image, config)
	return image, tag, err
}

// placeholderImage sees to it that the image of placeholders is on the engine.
type placeholderImage struct {
	driver  *Driver
	request string // the configured image; empty: the built-in one

	mu    sync.Mutex // held while it is being looked for, so that nobody does so twice
	known string     // what it is called; empty: not there yet, as far as is known
	held  bool       // the cleaner leaves it alone
}

// ensure returns the name of the image.
func (p *placeholderImage) ensure(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known != "" {
		return p.known, nil
	}
	found, err := p.find(ctx)
	if err != nil {
		return "", err
	}
	p.known = found
	return found, nil
}

func (p *placeholderImage) find(ctx context.Context) (string, error) {
	d := p.driver
	if p.request != "" {
		p.hold(ctx, p.request)
		_, err := d.EnsureImage(ctx, driver.ImageRequest{Name: p.request})
		return p.request, err
	}
	image, tag, err := pauseImage(d.architecture)
	if err != nil {
		return "", err
	}
	p.hold(ctx, tag.String())
	if err := p.load(ctx, image, tag); err != nil {
		return "", fmt.Errorf("load the image of placeholders, %s: %w", tag, err)
	}
	return tag.String(), nil
}

// hold keeps the image from being cleaned up as long as the driver lives.
func (p *placeholderImage) hold(ctx context.Context, name string) {
	if !p.held {
		p.held = true
		p.driver.cleaner.hold(ctx, name)
	}
}

// load gives the built-in image to an engine that does not have it.
func (p *placeholderImage) load(ctx context.Context, image v1.Image, tag name.Tag) error {
	callCtx, cancel := p.driver.deadline(ctx)
	defer cancel()
	if _, err := p.driver.engine.ImageInspect(callCtx, tag.String()); !errdefs.IsNotFound(err) {
		return failure(callCtx, "the engine", err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, image, &archive); err != nil {
		return err
	}
	_, err := p.driver.load(callCtx, &archive)
	return failure(callCtx, "the engine", err)
}

// vanished makes ensure look again: the image was not there when it was used.
func (p *placeholderImage) vanished() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = ""
}
