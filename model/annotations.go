package model

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Annotation keys that the server generates in responses. Clients send them
// back unchanged, so they are dropped on write (see [Annotations.WithoutReserved]).
const (
	AnnotationInvokeEndpoint = "fnproject.io/fn/invokeEndpoint"
	AnnotationHTTPEndpoint   = "fnproject.io/trigger/httpEndpoint"
)

// Annotations is free-form data that clients attach to definitions: any JSON
// value by key, kept as compact JSON text.
type Annotations map[string]json.RawMessage

// UnmarshalJSON reads an object and compacts its values; key order inside the
// values stays.
func (a *Annotations) UnmarshalJSON(raw []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return err
	}
	for key, value := range values {
		var compact bytes.Buffer
		if err := json.Compact(&compact, value); err != nil {
			return err
		}
		values[key] = compact.Bytes()
	}
	*a = values
	return nil
}

// Validate checks keys, values and their number, in this order. Of several
// failures it returns that of the first key, so that equal requests get equal
// answers.
func (a Annotations) Validate() error {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if err := validateAnnotation(key, a[key]); err != nil {
			return err
		}
	}
	if len(a) > MaxAnnotations {
		return ErrAnnotationTooMany
	}
	return nil
}

func validateAnnotation(key string, value json.RawMessage) error {
	if !isAnnotationKey(key) {
		return ErrAnnotationKey
	}
	if len(key) > MaxAnnotationKeyBytes {
		return ErrAnnotationKeyTooLong
	}
	if isEmptyAnnotation(value) {
		return ErrAnnotationValue
	}
	if len(value) > MaxAnnotationValueBytes {
		return ErrAnnotationValueTooLong
	}
	if err := validateRuntime(key, value); err != nil {
		return err
	}
	return validateScale(key, value)
}

func isAnnotationKey(key string) bool {
	for i := range len(key) {
		if key[i] < '!' || key[i] > '~' {
			return false
		}
	}
	return key != ""
}

// isEmptyAnnotation reports whether a value means "delete" in an update and
// nothing valid in a create.
func isEmptyAnnotation(value json.RawMessage) bool {
	return len(value) == 0 || string(value) == `""` || string(value) == "null"
}

// Merge returns a changed by patch: the values "" and null delete their key,
// any other adds or replaces. a itself is not changed.
func (a Annotations) Merge(patch Annotations) Annotations {
	if len(patch) == 0 {
		return maps.Clone(a)
	}
	merged := make(Annotations, len(a)+len(patch))
	maps.Copy(merged, a)
	for key, value := range patch {
		if isEmptyAnnotation(value) {
			delete(merged, key)
		} else {
			merged[key] = value
		}
	}
	return merged
}

// Equal reports whether both hold the same JSON texts; nil equals empty.
func (a Annotations) Equal(other Annotations) bool {
	return maps.EqualFunc(a, other, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
}

// WithoutReserved returns a without the keys that the server generates.
func (a Annotations) WithoutReserved() Annotations {
	_, invoke := a[AnnotationInvokeEndpoint]
	_, endpoint := a[AnnotationHTTPEndpoint]
	if !invoke && !endpoint {
		return a
	}
	kept := maps.Clone(a)
	delete(kept, AnnotationInvokeEndpoint)
	delete(kept, AnnotationHTTPEndpoint)
	return kept
}

// With returns a plus one server-generated text value, which no limit applies to.
func (a Annotations) With(key, text string) (Annotations, error) {
	value, err := json.Marshal(text)
	if err != nil {
		return nil, err
	}
	extended := make(Annotations, len(a)+1)
	maps.Copy(extended, a)
	extended[key] = value
	return extended, nil
}
