# Greets people.
module Greeting
  def self.for(name) = "Hello, #{name}!"
end
