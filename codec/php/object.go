package php

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// A Field is an element of an array, or a property of an object.
type Field struct {
	// Name is the key, or the name of a property as PHP stores it: "\x00*\x00name" if
	// it is protected, and "\x00Class\x00name" if it is private.
	Name string
	// Int says that the key is an integer, and Name its digits. In an [Array] it is
	// the same as if Name were a string, because PHP makes integers of such keys.
	Int bool
	// Value is the value.
	Value any
}

// An Array is an array of PHP with its order. A value that PHP is to find in the order
// in which it has put it is best read as an Array, or as a slice of structs: maps are
// written in the order of their keys.
type Array []Field

// Get returns the value of the element called name, nil if there is none.
func (a Array) Get(name string) any { return get(a, name) }

// An Object is an object of PHP in an any: what a class is, PHP alone knows. Set again,
// it is an object of the same class. Nothing is run when it is read.
type Object struct {
	// Class is the name of the class.
	Class string
	// Fields are the properties, or what the method __serialize of the class made, in
	// the order of PHP.
	Fields []Field
}

// Get returns the property called name, whether it is public, protected or private,
// nil if there is none.
func (o Object) Get(name string) any { return get(o.Fields, name) }

func get(fields []Field, name string) any {
	for _, f := range fields {
		if f.Name == name || !f.Int && plainName(f.Name) == name {
			return f.Value
		}
	}
	return nil
}

// plainName returns the name of a property without its visibility.
func plainName(name string) string {
	if rest, ok := strings.CutPrefix(name, "\x00"); ok {
		if _, plain, ok := strings.Cut(rest, "\x00"); ok {
			return plain
		}
	}
	return name
}

// wellNamed reports whether PHP takes name for that of a property.
func wellNamed(name string) bool {
	return name == "" || name[0] != 0 || plainName(name) != name && name[1] != 0
}

// An Enum is a case of an enum of PHP. The zero Enum is null.
type Enum struct{ Class, Case string }

// An Opaque is an object of a class that implements PHP's interface Serializable.
// Only the class knows what the data means. The zero Opaque is null.
type Opaque struct {
	Class string
	Data  []byte
}

// Raw is a value as PHP has serialized it, with references numbered from its
// beginning; nil is null. As a part of another value, it must not have references.
type Raw []byte

// Time is a time that PHP finds as an object of class DateTimeImmutable, in UTC. It
// has whole microseconds: truncate others. A plain [time.Time] is a string for PHP.
type Time struct{ time.Time }

// Classed is a struct that PHP finds as an object of a class. Its fields are the
// properties of these names, whatever their visibility in the class. Unmarshal
// refuses an object of another class.
type Classed interface {
	// PHPClass returns the name of the class, such as `App\Cart`. It is called on the
	// zero value, and must be the same for all.
	PHPClass() string
}

// The layout of the property date of PHP's DateTime.
const dateLayout = "2006-01-02 15:04:05.000000"

var (
	timeType    = reflect.TypeFor[time.Time]()
	phpTimeType = reflect.TypeFor[Time]()
	arrayType   = reflect.TypeFor[Array]()
	objectType  = reflect.TypeFor[Object]()
	enumType    = reflect.TypeFor[Enum]()
	opaqueType  = reflect.TypeFor[Opaque]()
	rawType     = reflect.TypeFor[Raw]()
	classedType = reflect.TypeFor[Classed]()
)

// date has the properties of an object of class DateTime or DateTimeImmutable.
type date struct {
	Date string `php:"date"`
	Type int    `php:"timezone_type"`
	Zone string `php:"timezone"`
}

// time returns the time that PHP means.
func (d date) time() (time.Time, error) {
	loc := time.UTC
	var err error
	switch d.Type {
	case 1:
		var at time.Time
		if at, err = time.Parse("-07:00", d.Zone); err != nil {
			at, err = time.Parse("-07:00:00", d.Zone)
		}
		_, offset := at.Zone()
		loc = time.FixedZone("", offset)
	case 2:
		if d.Zone != "UTC" && d.Zone != "GMT" && d.Zone != "Z" {
			return time.Time{}, fmt.Errorf("php: a DateTime with the abbreviation of a time zone, which does not say what zone it is")
		}
	case 3:
		loc, err = time.LoadLocation(d.Zone)
	default:
		err = errPanic
	}
	if err != nil || d.Zone == "" || d.Zone == "Local" {
		return time.Time{}, &quietError{"php: a DateTime with a time zone that is not known here", err}
	}
	at, err := time.ParseInLocation(dateLayout, d.Date, loc)
	if err != nil {
		return time.Time{}, &quietError{"php: a DateTime with a date that is not a time in Go", err}
	}
	return at, nil
}
