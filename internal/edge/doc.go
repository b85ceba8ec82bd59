// Package edge is what happens to every HTTP request before and after its
// handler: request identifiers, CORS, limits on the request body, routing,
// recovery from panics, and turning errors into responses.
//
// It knows no resource and no call; packages httpapi and gateway bring the
// handlers. Read router.go first.
package edge
