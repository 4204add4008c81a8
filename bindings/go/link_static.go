//go:build cgo && (unix || windows) && greenapi_static

package greenapi

// #cgo pkg-config: greenapi-static
import "C"
