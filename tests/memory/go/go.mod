module github.com/greenapi/greenapi/tests/memory/go

go 1.23

require github.com/greenapi/greenapi/bindings/go v0.0.0

replace github.com/greenapi/greenapi/bindings/go => ../../../bindings/go
