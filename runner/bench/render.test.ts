import test from 'ava';
import type { BenchResult, Part } from './figure.ts';
import { figure } from './figure.ts';
import { quantity, renderMarkdown } from './render.ts';

function result(parts: readonly Part[], load = 0.5): BenchResult {
  return {
    schema: 1,
    startedAt: '2026-01-02T03:04:05.000Z',
    profile: 'mainline-6.12',
    kernel: { release: '6.12.1', imageSha256: 'aa' },
    accelerator: 'tcg',
    host: { cpus: 2, cpuModel: 'A CPU', memoryMib: 1024, release: '6.1', loadBefore: load, loadAfter: 0 },
    parts,
  };
}

const boot: Part = {
  name: 'boot',
  title: 'Boot',
  method: 'Both, in turn.',
  figures: [
    figure('boot.ours', 'ours', 's', [5, 6, 9], { bound: 'at most', value: 7 }),
    figure('boot.ratio', 'stock / ours', 'times', [2, 2.5, 4], { bound: 'at least', value: 3 }),
    figure('boot.stock', 'stock', 's', [20]),
  ],
  notMeasured: null,
};

test('bench figures: the median decides, not the extremes', (t) => {
  t.deepEqual(
    boot.figures.map(({ met }) => met),
    [true, false, null],
  );
});

test('bench figures: exactly the target is met', (t) => {
  t.true(figure('x', 'x', '%', [5], { bound: 'at most', value: 5 }).met);
  t.true(figure('x', 'x', 'times', [3], { bound: 'at least', value: 3 }).met);
});

test('bench figures: without samples there is no figure', (t) => {
  t.throws(() => figure('x', 'x', 's', []), { message: /no samples for x/ });
});

test('bench page: a row has spread, target and whether it was met', (t) => {
  const page = renderMarkdown(result([boot]));
  t.true(page.includes('| ours | 5.00 s | 6.00 s | 9.00 s | 3 | at most 7.00 s | yes |'));
  t.true(page.includes('| stock / ours | 2.00× | 2.50× | 4.00× | 3 | at least 3.00× | no |'));
  t.true(page.includes('| stock | 20.00 s | 20.00 s | 20.00 s | 1 |  |  |'));
});

test('bench page: what was not measured says why, without a table, as one clean line', (t) => {
  const page = renderMarkdown(
    result([
      {
        ...boot,
        figures: [],
        notMeasured: { code: 'E_X', reason: 'no \u001b[31mvng\n::error::', hint: 'run `make setup`' },
      },
    ]),
  );
  t.regex(page, /^Not measured \(E_X\): no .*vng/m);
  t.false(page.includes('\u001b'));
  t.false(page.includes('\n::error'));
  t.true(page.includes('Hint: run `make setup`'));
  t.false(page.includes('| figure |'));
});

test('bench page: a busy machine is said to be busy', (t) => {
  t.true(renderMarkdown(result([], 9)).includes('busy'));
  t.false(renderMarkdown(result([], 1)).includes('busy'));
});

test('bench page: every unit has its form', (t) => {
  t.deepEqual(
    (['s', 'times', '%', 'MB', 'tests/s'] as const).map((unit) => quantity(1.234, unit)),
    ['1.23 s', '1.23×', '1.2 %', '1 MB', '1.23 tests/s'],
  );
});
