module github.com/seed-a7bee19b/session

go 1.24
