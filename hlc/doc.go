// Package hlc is a hybrid logical clock.
package hlc
