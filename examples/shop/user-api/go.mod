module example.com/shop/user-api

go 1.25
