package main

import "fmt"

// money is an amount in cents.
type money int

func (m money) String() string { return fmt.Sprintf("€%d.%02d", m/100, m%100) }

type tea struct {
	ID, Name, Kind, Origin, Text string
	Price                        money
	Color                        string // of its tin
}

var teas = []tea{
	{"assam", "Assam Second Flush", "Black", "Assam, India", "Malty and strong. It takes milk, and forgives a pot left standing.", 980, "#9a4a2c"},
	{"sencha", "Uji Sencha", "Green", "Kyoto, Japan", "Steamed the day it is picked. Grass, sea air, and a sweet finish.", 1250, "#3f7f56"},
	{"darjeeling", "Darjeeling First Flush", "Black", "West Bengal, India", "The first leaves of spring: light, floral, a little sharp.", 1490, "#b4822a"},
	{"oolong", "Iron Goddess", "Oolong", "Anxi, China", "Rolled tight. Seven infusions, each one a little different.", 1340, "#2f7480"},
	{"peony", "White Peony", "White", "Fuding, China", "Only wilted and dried. Hay, melon, and no hurry at all.", 1620, "#7d6f93"},
	{"earlgrey", "Earl Grey", "Black", "Keemun, China", "With oil of bergamot from Calabria, and nothing else.", 1090, "#41618f"},
}

func findTea(id string) (tea, bool) {
	for _, t := range teas {
		if t.ID == id {
			return t, true
		}
	}
	return tea{}, false
}
