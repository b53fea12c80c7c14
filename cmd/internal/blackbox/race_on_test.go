//go:build race

package blackbox_test

const race = true
