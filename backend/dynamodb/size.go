package dynamodb

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// itemSize returns the size that DynamoDB counts for an item, with the names of
// its attributes.
func itemSize(it map[string]types.AttributeValue) (size int) {
	for name, v := range it {
		size += len(name) + valueSize(v)
	}
	return size
}

func valueSize(v types.AttributeValue) int {
	size := 0
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return len(v.Value)
	case *types.AttributeValueMemberB:
		return len(v.Value)
	case *types.AttributeValueMemberN:
		return digitsSize(v.Value)
	case *types.AttributeValueMemberSS:
		for _, s := range v.Value {
			size += len(s)
		}
	case *types.AttributeValueMemberBS:
		for _, b := range v.Value {
			size += len(b)
		}
	case *types.AttributeValueMemberNS:
		for _, n := range v.Value {
			size += digitsSize(n)
		}
	case *types.AttributeValueMemberL:
		size = 3
		for _, e := range v.Value {
			size += 1 + valueSize(e)
		}
	case *types.AttributeValueMemberM:
		size = 3
		for name, e := range v.Value {
			size += 1 + len(name) + valueSize(e)
		}
	default: // BOOL, NULL
		size = 1
	}
	return size
}

// numberSize returns the size that DynamoDB counts for n. It stores numbers in
// base 100 without trailing zeros, with one byte more, and one for a minus.
func numberSize(n int64) int {
	if n == 0 {
		return 1
	}
	size := 1
	if n < 0 {
		size++
	}
	for n%100 == 0 {
		n /= 100
	}
	for ; n != 0; n /= 100 {
		size++
	}
	return size
}

// digitsSize is numberSize for the text of a number. It is an estimate if the
// number is not an integer.
func digitsSize(n string) int {
	if i, err := strconv.ParseInt(n, 10, 64); err == nil {
		return numberSize(i)
	}
	return len(n)/2 + 2
}
