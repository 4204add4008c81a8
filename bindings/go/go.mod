module github.com/greenapi/greenapi/bindings/go

go 1.23
