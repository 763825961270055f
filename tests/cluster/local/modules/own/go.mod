module roundhouse.dev/local/own

go 1.24.0
