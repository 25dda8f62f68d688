// The longest word of a record, which is a line of JSON on stdin: a program of QuickJS.

import * as std from "qjs:std";

const record = JSON.parse(std.in.getline());
if (record.words === undefined) {
    throw new TypeError("a record without words");
}
const longest = record.words.split(" ").reduce((one, other) => (other.length > one.length ? other : one), "");
console.log(JSON.stringify({ longest }));
