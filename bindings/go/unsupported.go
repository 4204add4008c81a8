//go:build !cgo || !(unix || windows)

package greenapi

// The compiler prints this name when the package is built where it cannot work.
var _ = greenapi_needs_cgo_and_Unix_or_Windows_so_set_CGO_ENABLED_1_and_install_a_C_compiler
