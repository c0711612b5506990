import test from 'ava';
import { cleanLine, cleanText, neutraliseCommands } from './clean-text.ts';

const hostile: readonly (readonly [string, string, string])[] = [
  ['colours', '\x1b[1;31mred\x1b[0m', 'red'],
  ['cursor movement', 'a\x1b[2K\x1b[1Gb', 'ab'],
  ['a window title', 'a\x1b]0;title\x07b', 'ab'],
  ['a title that never ends', 'a\x1b]0;title', 'a'],
  ['a lone escape', 'a\x1b', 'a'],
  ['a C1 CSI', 'a\x9b31mb', 'ab'],
  ['a bell and a backspace', 'a\x07\x08b', 'ab'],
  ['carriage returns', 'good\rbad\r\nnext', 'good\nbad\nnext'],
  ['text direction overrides', 'a\u202eb\u2066c', 'abc'],
  ['ordinary text', 'tab\tnewline\nümlaut ✓', 'tab\tnewline\nümlaut ✓'],
];

for (const [what, given, expected] of hostile) {
  test(`clean text: ${what}`, (t) => {
    t.is(cleanText(given), expected);
  });
}

test('clean text: one line, cut to its limit', (t) => {
  t.is(cleanLine('a\n b\tc'), 'a b c');
  t.is(cleanLine('abcdef', 4), 'abc…');
});

test('clean text: workflow commands lose their meaning', (t) => {
  t.is(neutraliseCommands('x\n  ::error::no\na::b'), 'x\n  : :error::no\na::b');
  t.is(neutraliseCommands('log ##[error]no'), 'log ## [error]no');
});
