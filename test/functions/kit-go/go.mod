module kit-go

go 1.26.0

require github.com/fnproject/fdk-go v0.0.2
