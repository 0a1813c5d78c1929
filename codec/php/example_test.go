package php_test

import (
	"fmt"
	"log"

	"github.com/seed-a7bee19b/session/codec/php"
)

// A Go page reads the cart that a PHP page has stored, adds an item, and stores it so
// that the PHP page finds it.
func Example() {
	type Item struct {
		SKU string `php:"sku"`
		Qty int    `php:"qty"`
	}
	type Cart struct {
		Items []Item  `php:"items"`
		Total float64 `php:"total"`
	}

	codec := php.Codec{User: "user_id"}
	stored := []byte(`user_id|s:3:"ann";cart|a:2:{s:5:"items";a:1:{i:0;a:2:{s:3:"sku";s:2:"A1";s:3:"qty";i:2;}}s:5:"total";d:19.9;}`)
	values, err := codec.Split(stored)
	if err != nil {
		log.Fatal(err)
	}
	var cart Cart
	if err := codec.Unmarshal(values["cart"], &cart); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", cart)

	cart.Items = append(cart.Items, Item{"B2", 1})
	cart.Total += 5
	if values["cart"], err = codec.Marshal(cart); err != nil {
		log.Fatal(err)
	}
	stored, err = codec.Join(values)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", stored)
	// Output:
	// {Items:[{SKU:A1 Qty:2}] Total:19.9}
	// user_id|s:3:"ann";cart|a:2:{s:5:"items";a:2:{i:0;a:2:{s:3:"sku";s:2:"A1";s:3:"qty";i:2;}i:1;a:2:{s:3:"sku";s:2:"B2";s:3:"qty";i:1;}}s:5:"total";d:24.9;}
}

// Order is an object of a class of the PHP side.
type Order struct {
	ID    int    `php:"id"`
	State string `php:"state"` // private in PHP
}

func (Order) PHPClass() string { return `App\Order` }

// A struct with the method PHPClass is an object of that class.
func ExampleClassed() {
	var codec php.Codec
	data, err := codec.Marshal(Order{ID: 7, State: "paid"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", data)

	var order Order
	err = codec.Unmarshal([]byte("O:9:\"App\\Order\":2:{s:2:\"id\";i:8;s:16:\"\x00App\\Order\x00state\";s:4:\"open\";}"), &order)
	fmt.Println(order, err)
	// Output:
	// O:9:"App\Order":2:{s:2:"id";i:7;s:5:"state";s:4:"paid";}
	// {8 open} <nil>
}

// An object of a class that Go knows nothing of keeps the class when it is set again.
func ExampleObject() {
	var codec php.Codec
	var v any
	if err := codec.Unmarshal([]byte("O:6:\"Basket\":1:{s:8:\"\x00*\x00count\";i:3;}"), &v); err != nil {
		log.Fatal(err)
	}
	basket := v.(php.Object)
	fmt.Println(basket.Class, basket.Get("count"))

	basket.Fields[0].Value = 4
	data, err := codec.Marshal(basket)
	fmt.Printf("%q %v\n", data, err)
	// Output:
	// Basket 3
	// "O:6:\"Basket\":1:{s:8:\"\x00*\x00count\";i:4;}" <nil>
}

// The users of PHP are integers here, and strings in Go.
func ExampleCodec_user() {
	codec := php.Codec{User: "uid", UserInt: true}
	values, err := codec.Split([]byte(`lang|s:2:"en";uid|i:42;`))
	fmt.Printf("%s %v\n", values["_session.user"], err)

	values["_session.user"] = []byte(`s:2:"43";`) // as Session.Login does
	stored, err := codec.Join(values)
	fmt.Printf("%s %v\n", stored, err)
	// Output:
	// s:2:"42"; <nil>
	// lang|s:2:"en";uid|i:43; <nil>
}
