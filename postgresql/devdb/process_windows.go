package devdb

import (
	"errors"
	"os/exec"
)

func prepare(*exec.Cmd, *job) error {
	return errors.New("not supported on Windows: set DATABASE_URL to a PostgreSQL of your own")
}

func alive(int) bool { return false }

func awaitExit(int) {}
