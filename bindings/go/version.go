//go:build cgo && (unix || windows)

package greenapi

import (
	"fmt"
	"strings"
	"sync"
)

// Version is the version of this package. It works with every libgreenapi of the same release
// series, which are the first two numbers.
const Version = "0.2.0"

// LibraryVersion returns the version of the libgreenapi that this program runs with.
func LibraryVersion() string { return libraryVersion() }

// checkLibrary compares the two versions, once. Every call into the library is preceded by this
// check, because calls across an unknown interface would be undefined behaviour.
var checkLibrary = sync.OnceValue(func() error {
	library := LibraryVersion()
	if releaseSeries(library) == releaseSeries(Version) {
		return nil
	}
	return refused(0, StatusInvalidArgument, fmt.Sprintf(
		"The loaded libgreenapi is version %s, and this program was built with version %s of its Go package: "+
			"install libgreenapi %s.x, or rebuild with the Go package of version %s.",
		library, Version, releaseSeries(Version), library), ErrLibraryVersion).Err()
})

func releaseSeries(version string) string {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return major + "." + minor
}
