//go:build ignore

// Command measure prints how large a package is: its files, lines and exported
// names, its longest functions, and its structs with many fields.
//
//	go run scripts/measure.go [folder]
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type measure struct {
	name string
	n    int
}

func main() {
	log.SetFlags(0)
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		log.Fatal(err)
	}
	files, lines, exported := 0, 0, map[string]bool{}
	var functions, fields []measure
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			log.Fatal(err)
		}
		files++
		lines += bytes.Count(src, []byte("\n"))
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() {
					exported[d.Name.Name] = true
				}
				length := fset.Position(d.End()).Line - fset.Position(d.Pos()).Line + 1
				functions = append(functions, measure{filepath.Base(name) + " " + d.Name.Name, length})
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						if s.Name.IsExported() {
							exported[s.Name.Name] = true
						}
						if st, ok := s.Type.(*ast.StructType); ok {
							fields = append(fields, measure{filepath.Base(name) + " " + s.Name.Name, st.Fields.NumFields()})
						}
					case *ast.ValueSpec:
						for _, id := range s.Names {
							if id.IsExported() {
								exported[id.Name] = true
							}
						}
					}
				}
			}
		}
	}
	fmt.Printf("files %d, lines %d, exported names %d\n", files, lines, len(exported))
	largest("functions, by lines", functions)
	largest("structs, by fields", fields)
}

func largest(what string, all []measure) {
	slices.SortFunc(all, func(a, b measure) int { return cmp.Compare(b.n, a.n) })
	fmt.Println(what)
	for _, m := range all[:min(5, len(all))] {
		fmt.Printf("  %3d %s\n", m.n, m.name)
	}
}
