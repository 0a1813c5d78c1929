package dynamodb

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// A Sweep beside PHP deletes PHP's sessions too, and what its locks leave behind.

// expressionsShared changes the expressions of a sweep for a table beside PHP.
func (s *sweep) expressionsShared() {
	const remains = "attribute_type(#l, :number) AND attribute_not_exists(#e) AND attribute_not_exists(#d) AND attribute_not_exists(#v)"
	prefix := ""
	if s.from.Prefix != "" {
		prefix = " AND begins_with(#k, :prefix)"
	}
	s.projection = "#k, #e, #c, #v, #l"
	s.filter = strings.TrimSuffix(s.filter, prefix)
	s.filter = "((" + s.filter + ") OR (" + remains + "))" + prefix
	s.filterNames = s.b.names("#k", "#e", "#c", "#v", "#l", "#d")
	s.filterValues[":number"] = &types.AttributeValueMemberS{Value: "N"}
	s.own = expression{
		// A lock of PHP's has no end, and its request has not made the session live.
		condition: "#e <= :cutoff AND (attribute_not_exists(#l) OR NOT attribute_type(#l, :binary) OR #u <= :ms)",
		names:     s.b.names("#e", "#l", "#u"),
	}
	s.remains = expression{condition: remains, names: s.b.names("#l", "#e", "#d", "#v")}
}

// ownerShared returns whose an item without a version is.
func (b *Backend) ownerShared(it map[string]types.AttributeValue, key string) owner {
	_, expires := epoch(it[b.c.ExpiresAttribute], 1)
	switch {
	case !strings.HasPrefix(key, b.c.PHP.SessionName+"_"):
		return ownedByOthers
	case expires:
		return ownedByUs
	case it[b.c.ExpiresAttribute] == nil:
		return ownedByNone
	}
	return ownedByOthers
}
