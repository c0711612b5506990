import test from 'ava';
import fc from 'fast-check';
import { rerunCommand, rerunOptions } from './rerun.ts';

const plain = {
  ...{ profile: 'mainline-6.12', series: null, tree: null, kernel: null, fragments: [], append: '' },
  ...{ patches: null, base: null },
  accelerator: 'auto',
} as const;

test('rerun: a command gives back the options that it was made of', (t) => {
  const same = {
    ...plain,
    series: "/home/a b/it's $HOME.mbox",
    fragments: ['/a.config', '/b c.config'],
    patches: 0,
    base: 'v6.12~1',
    append: 'quiet loglevel=7',
    accelerator: 'tcg',
  } as const;
  t.deepEqual(rerunOptions(rerunCommand(same)), {
    profile: 'mainline-6.12',
    series: "/home/a b/it's $HOME.mbox",
    patches: '0',
    base: 'v6.12~1',
    config: ['/a.config', '/b c.config'],
    append: 'quiet loglevel=7',
    accel: 'tcg',
  });
});

test('rerun: any path comes back as it was', (t) => {
  const path = fc.string({ minLength: 1, maxLength: 40 }).filter((text) => !text.startsWith('-'));
  fc.assert(
    fc.property(path, (series) => rerunOptions(rerunCommand({ ...plain, series }))['series'] === series),
  );
  t.pass();
});
