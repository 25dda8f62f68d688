module github.com/sandpool/sandpool/guest-sdk/go

go 1.24
