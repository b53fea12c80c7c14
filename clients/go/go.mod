module github.com/event-piper/event-piper/clients/go

go 1.24
