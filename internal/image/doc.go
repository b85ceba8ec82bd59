// Package image keeps container images on disk for a driver that runs
// containers without an engine: what a registry calls manifests, configs and
// layers, and each layer unpacked into a directory that overlayfs takes as a
// lower directory.
//
// One process owns a store's directory, which has in it:
//
//	lock                          held as long as the store is open
//	format                        the version of this layout
//	tmp/                          what is being written; emptied by Open
//	removed/                      what is being removed; there beforehand, as a full disk takes no directory
//	blobs/sha256/<digest>         manifests, configs and layers as they were pushed
//	layers/sha256/<diffID>/fs     a layer, unpacked
//	layers/sha256/<diffID>/layer.json  its size, and the digest of the unpacked tree
//	images/sha256/<digest>.json   an image that is complete; its mtime is its last use
//	names.json                    names, such as docker.io/library/busybox:latest, and what they mean
//	hosts.json                    addresses of the registry that is served from it, see OwnHost
//	quarantine/                   what Verify found to be something else than its name says
//
// Whatever is written is written aside, synced, renamed, and its directory is
// synced, in the order blobs, layers, image, names. So after a crash there may
// be blobs and layers that no image refers to, which the next pull uses or
// [Store.Collect] removes, but no image that lacks something.
//
// On a full disk unused images are removed if Options.MakeRoom does so, and what
// an image has that there was no room for is removed as well.
//
// Layers are kept by their diffID, not by the chain below them: two images share
// a layer wherever it is. The price is that a directory which a layer does not
// list itself, only files in it, is made with mode 0755.
//
// Formats: OCI image spec 1.1 (image-spec/manifest.md, image-index.md,
// layer.md, image-layout.md), Docker image manifest v2 schema 2, and the
// archives of docker save (moby/docker-image-spec). Overlay's whiteouts: Linux,
// Documentation/filesystems/overlayfs.rst.
//
// Layers are unpacked on Linux only; elsewhere the package compiles and the
// unpacker returns an error.
package image
