// The number of each line of stdin among those before it, by the library of C++.

#include <iostream>
#include <map>
#include <string>

int main() {
    std::map<std::string, int> counts;
    for (std::string line; std::getline(std::cin, line);) {
        std::cout << line << ' ' << ++counts[line] << '\n';
    }
    std::cout << counts.size() << " different lines" << std::endl;
}
