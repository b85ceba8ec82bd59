package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/tinefn/tine/client"
	"github.com/tinefn/tine/model"
)

// A program that makes sure that there is an app, and lists its functions.
func Example() {
	ctx := context.Background()
	c, err := client.New("http://localhost:8080", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	app, err := c.AppByName(ctx, "shop")
	if errors.Is(err, model.ErrAppNotFound) {
		app, err = c.CreateApp(ctx, &model.App{Name: "shop"})
	}
	if err != nil {
		log.Fatal(err)
	}
	for fn, err := range c.Fns(ctx, model.FnFilter{AppID: app.ID}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(fn.Name, fn.Image)
	}
}
