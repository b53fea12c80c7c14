package service

import (
	"strings"

	"github.com/event-piper/event-piper/core/settings"
)

// Command takes the command off a program's arguments: "" is to serve. What asks for help or for the version as a flag
// comes out as what asks for it as a command does.
func Command(args []string) (command string, rest []string) {
	switch {
	case len(args) == 0:
		return "", nil
	case args[0] == "help":
		return "", []string{"--help"}
	case args[0] == "--version":
		return "version", args[1:]
	case strings.HasPrefix(args[0], "-"):
		return "", args
	}
	return args[0], args[1:]
}

// UnknownCommand refuses a command, and names the one that may have been meant.
func UnknownCommand(program, command string, known ...string) error {
	if nearest := settings.Nearest(command, known); nearest != "" {
		return settings.Usage("unknown command %q: did you mean %s?", command, nearest)
	}
	return settings.Usage("unknown command %q: %s help lists them", command, program)
}
