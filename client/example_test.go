package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/client"
)

func Example() {
	c, err := client.New([]string{"127.0.0.1:7480"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	if _, err := c.Put(ctx, "greeting", []byte("hello"), client.IfAbsent()); errors.Is(err, client.ErrAlreadyExists) {
		fmt.Println("somebody was here before")
	}
	visits, err := c.Counter("visits").Add(ctx, 1)
	if errors.Is(err, client.ErrOutcomeUnknown) {
		fmt.Println("the visit may count or not; the error names the operation id to repeat it with")
	}
	fmt.Println(visits)
	for entry, err := range c.Scan(ctx, client.ScanOptions{Prefix: "user/"}) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(entry.Key, entry.Type)
	}
}
