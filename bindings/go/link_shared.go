//go:build cgo && (unix || windows) && !greenapi_static

package greenapi

// In a file for each tag: Go's build cache knows which files a package has, but not what pkg-config is
// asked for, so a program that was first built without greenapi_static would stay so with it.

// #cgo pkg-config: greenapi
import "C"
