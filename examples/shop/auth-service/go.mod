module example.com/shop/auth-service

go 1.25
