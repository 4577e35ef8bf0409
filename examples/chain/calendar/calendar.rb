require "date"

# Knows what day it is.
module Calendar
  def self.today = Date.today.strftime("%A")
end
