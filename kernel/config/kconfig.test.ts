import test from 'ava';
import fc from 'fast-check';
import { Failure } from '#runner/lib/failure.ts';
import { formatAssignment, parseKconfig } from './kconfig.ts';

test('kconfig: every kind of value is read', (t) => {
  const { assignments } = parseKconfig(
    '# why\n\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D="a \\"b\\""\nCONFIG_E=-1\nCONFIG_F=0x1F\nCONFIG_G=n\n',
    'f',
  );
  t.deepEqual(
    assignments.map(({ symbol, value }) => `${symbol}=${value}`),
    ['A=y', 'B=m', 'C=n', 'D="a \\"b\\""', 'E=-1', 'F=0x1F', 'G=n'],
  );
  t.is(assignments[0]?.line, 3);
});

for (const [what, text, sentence] of [
  ['a line that is neither', 'CONFIG_A=y\nFUSE=y\n', /f, line 2: "FUSE=y"/],
  ['a value that is none', 'CONFIG_A=yes\n', /line 1/],
  ['two values in one file', 'CONFIG_A=y\n# CONFIG_A is not set\n', /line 2: CONFIG_A already .* line 1/],
] as const) {
  test(`kconfig: ${what} is refused with its line`, (t) => {
    const failure = t.throws(() => parseKconfig(text, 'f'), { instanceOf: Failure, message: sentence });
    t.is(failure.code, 'E_CONFIG_INVALID');
    t.is(failure.blame, 'user');
  });
}

test('kconfig: what is written is read back', (t) => {
  const value = fc.oneof(
    fc.constantFrom('y', 'm', 'n'),
    fc.integer().map(String),
    fc.stringMatching(/^[ -!#-[\]-~]*$/u).map((text) => `"${text}"`),
  );
  const symbol = fc.stringMatching(/^[A-Z0-9_]{1,12}$/u);
  fc.assert(
    fc.property(fc.dictionary(symbol, value, { noNullPrototype: true }), (wishes) => {
      const text = Object.entries(wishes)
        .map(([name, wanted]) => formatAssignment(name, wanted))
        .join('\n');
      const read = parseKconfig(text, 'f').assignments.map((found) => [found.symbol, found.value]);
      t.deepEqual(Object.fromEntries(read), wishes);
    }),
  );
});

test('kconfig: any text is read or refused with a Failure', (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseKconfig(text, 'f');
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
      }
    }),
  );
  t.pass();
});
