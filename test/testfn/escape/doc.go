// Package escape is what the test function tries in order to get out of its
// container: the real system calls, with the names of things that the test has
// made outside.
//
// An attempt is refused, or gets through. It is refused if the kernel says so by
// one of the errors that mean that ([refusals]) or by one that the attempt knows
// to mean it. Anything else gets through: success, and also an error that comes
// only after the question of rights, as for a module that is none. So most
// attempts do no harm even where they succeed.
package escape
