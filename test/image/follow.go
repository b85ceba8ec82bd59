package image

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/moby/moby/api/types/jsonstream"
)

// follow reads the engine's report of a build to its end and closes it. A
// build that failed says so only there.
func follow(stream io.ReadCloser) (err error) {
	defer func() { err = errors.Join(err, stream.Close()) }()
	decoder := json.NewDecoder(stream)
	for {
		var message jsonstream.Message
		switch err := decoder.Decode(&message); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case message.Error != nil:
			return message.Error
		}
	}
}
