import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { exec } from '#runner/lib/exec.ts';
import { mutateSource } from './mutate-source.ts';

const whats = (source: string): readonly string[] =>
  mutateSource('x.c', source, 1).mutants.map(({ what }) => what);

/** With a function around it, and the place left out of what is said. */
const inFunction = (body: string): readonly string[] =>
  whats(`int f(int a, int b)\n{\n${body}\n}\n`).map((what) => what.replace(/^line \d+, f\(\): /, ''));

test('mutate: each operand of && and || is taken for the opposite, inside !( ) and unlikely( ) as well', (t) => {
  t.deepEqual(inFunction('if (!(a || unlikely(b && c)) && d)\n\tg(a);'), [
    'taken for false when true: a',
    'taken for true when false: a',
    'taken for false when true: b',
    'taken for true when false: b',
    'taken for false when true: c',
    'taken for true when false: c',
    'taken for false when true: d',
    'taken for true when false: d',
    'left out: g(a);',
  ]);
});

test('mutate: loops decide as an if does, and what never changes is no decision', (t) => {
  const found = inFunction(
    'while (a--)\n\t;\nfor (;;)\n\tbreak;\ndo {\n} while (0);\nfor (a = 0; a < b; a++)\n\t;',
  );
  t.deepEqual(found, [
    'taken for false when true: a--',
    'taken for true when false: a--',
    'left out: break;',
    'taken for false when true: a < b',
    'taken for true when false: a < b',
    'one off: a < b',
  ]);
});

test('mutate: truth values that are returned or stored, and the first part of a ?:', (t) => {
  t.deepEqual(inFunction('return a == b;'), [
    'taken for false when true: a == b',
    'taken for true when false: a == b',
  ]);
  t.deepEqual(inFunction('return a + b;'), []);
  t.deepEqual(inFunction('bool x = a && b;').length, 4);
  t.deepEqual(inFunction('return g(1, a ? b : 2);'), [
    'taken for false when true: a',
    'taken for true when false: a',
  ]);
  t.deepEqual(inFunction('return a ?: b;'), []);
});

test('mutate: error codes, added numbers, flags, truth values and results', (t) => {
  t.deepEqual(inFunction('int err = -EIO;'), ['-EINVAL instead of -EIO in: -EIO']);
  t.deepEqual(inFunction('return ERR_PTR(-ENOENT);'), ['-EIO instead of -ENOENT in: ERR_PTR(-ENOENT)']);
  t.deepEqual(inFunction('return (struct x *)a->b;'), [], 'a cast is no loop');
  t.deepEqual(inFunction('return a + 4096;'), ['without + 4096 in: a + 4096']);
  t.deepEqual(inFunction('return g(-1);'), []);
  t.deepEqual(inFunction('return O_RDWR | O_CREAT;'), [
    'without O_RDWR in: O_RDWR | O_CREAT',
    'without O_CREAT in: O_RDWR | O_CREAT',
  ]);
  t.deepEqual(inFunction('return true;'), ['false instead of true in: true']);
  t.deepEqual(inFunction('return 0;'), ['returns -EIO instead of 0']);
  t.deepEqual(inFunction('return err;'), ['returns 0 instead of err']);
});

test('mutate: declarations, tables, macros, cases, locks and what is printed stay as they are', (t) => {
  t.deepEqual(
    whats('static const int table[] = { A | B, -EIO };\n#define M(x) do { if (x) g(); } while (0)\n'),
    [],
  );
  const body = [
    'struct x *p;',
    'static int once = -EIO;',
    'DECLARE_WAITQUEUE(wait, current);',
    'FUSE_ARGS(args);',
    'switch (a) {',
    'case -ENOENT:',
    'default:',
    '\tpr_warn("odd: %d && %d", a, b);',
    '}',
    'spin_lock(&p->lock);',
    'inode_unlock(p);',
    'bool x = IS_ENABLED(CONFIG_X);',
    'if (x)',
    '\tlockdep_assert_held(p);',
    'if (IS_ENABLED(CONFIG_X))',
    '\tlockdep_assert_held(p);',
  ];
  t.deepEqual(inFunction(body.join('\n')), []);
});

test('mutate: a condition or statement with a line of the preprocessor inside is left alone', (t) => {
  t.deepEqual(inFunction('if (a\n#ifdef B\n    + b\n#endif\n    )\n\tg();'), ['left out: g();']);
});

test('mutate: text and comments are no code', (t) => {
  t.deepEqual(inFunction('/* if (a) */ // while (b)\nreturn g("if (a && b)", \'"\');'), []);
});

test('mutate: file, line and number of each are told, and the header is included before the first other', (t) => {
  const source = '/* x */\n#include "own.h"\n#include <other.h>\nvoid f(void)\n{\n\tg();\n\n\th();\n}\n';
  const { text, mutants } = mutateSource('fs/x.c', source, 41);
  t.deepEqual(mutants, [
    { number: 41, file: 'fs/x.c', line: 6, what: 'line 6, f(): left out: g();' },
    { number: 42, file: 'fs/x.c', line: 8, what: 'line 8, f(): left out: h();' },
  ]);
  t.regex(text, /^\/\* x \*\/\n#include <linux\/fusegate_mutant\.h>\n#pragma .*\n#include "own\.h"/);
});

const PROGRAM = `#include <errno.h>
static int limit(int a, int b, int *calls)
{
	int sum = 0;

	if (a < 0 || (b > 9 && b != 12))
		return -EINVAL;
	else if (!(a || b))
		goto out;
	for (; sum < a; sum++)
		*calls += 1;
	if (b)
		sum = sum + 100;
	else
		sum = a == 7 ? 1 : 2;
out:
	return sum;
}
`;

/** Calls with every a from -1 to 8 and b from -1 to 13; prints what comes of each, for each number. */
const MAIN = `
int main(void)
{
	for (active = 0; active <= LAST; active++) {
		for (int a = -1; a <= 8; a++)
			for (int b = -1; b <= 13; b++) {
				int calls = 0, got;

				budget = 1000;
				got = limit(a, b, &calls);
				printf("%d:%d:%d ", got, calls, budget > 0);
			}
		printf("\\n");
	}
	return 0;
}
`;

test('mutate: what comes out compiles, is as it was with number 0, and wrong with every other', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-mutate-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const { text, mutants } = mutateSource('x.c', PROGRAM, 1);
  const head = `#include <stdbool.h>\n#include <stdio.h>\nstatic int active, budget;\n`;
  // A loop that has lost its end is ended: the mistake is forgotten after a thousand questions.
  const question = '#define MUTANT(n) (active == (n) && budget-- > 0)\n';
  const build = async (name: string, code: string): Promise<readonly string[]> => {
    const path = join(dir, `${name}.c`);
    await writeFile(path, `${head}${question}#define LAST ${mutants.length}\n${code}${MAIN}`);
    const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-Wno-maybe-uninitialized'];
    const compiled = await exec('gcc', [...flags, '-o', join(dir, name), path]);
    t.is(compiled.exitCode, 0, compiled.stderr);
    return (await exec(join(dir, name), [])).stdout.trimEnd().split('\n');
  };
  const [right = ''] = await build('right', PROGRAM);
  const lines = await build('mutated', text.replace('#include <linux/fusegate_mutant.h>\n', ''));
  t.is(lines.length, mutants.length + 1);
  t.is(lines[0], right);
  t.is(mutants.length, 25);
  const same = mutants.filter(({ number }) => lines[number] === right).map(({ what }) => what);
  t.deepEqual(same, []);
});
