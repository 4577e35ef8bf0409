#!/usr/bin/ruby
require "calendar"
require "greeting"

puts "#{Greeting.for(ARGV.fetch(0))} It is #{Calendar.today}."
