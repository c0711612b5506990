import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { RunEvent } from '#runner/lib/events.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { prepareKernel } from './prepare-kernel.ts';
import type { Profile } from './profile.ts';
import { loadSeries } from './series/load-series.ts';
import { makeFakeKernel } from './testdata/fake-kernel.ts';
import { makeOwnSeries, OWN_SERIES_SUBJECTS, OWN_SERIES_TITLE } from './testdata/own-series.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-own-series-'));
process.env['FUSEGATE_CACHE'] = join(dir, 'cache');
test.after.always(() => rm(dir, { recursive: true, force: true }));
const { signal } = new AbortController();

const tree = join(dir, 'linux');
const mbox = join(dir, 'v2.mbox');
let base = '';
const FUSE: Readonly<Record<string, string>> = {
  Makefile: 'fuse-y := dev.o control.o\n',
  'control.c': Array.from({ length: 30 }, (_, line) => `int control_${line};\n`).join(''),
  'fuse_i.h': 'int before;\n\n#endif /* _FS_FUSE_I_H */\n',
  'inode.c': 'int fuse_init(void)\n{\n\tpr_info("init (API version %i.%i)\\n",\n\t\t7, 41);\n}\n',
};

test.before(async () => {
  await makeFakeKernel(tree);
  await mkdir(join(tree, 'fs/fuse'), { recursive: true });
  for (const [name, text] of Object.entries(FUSE)) await writeFile(join(tree, 'fs/fuse', name), text);
  ({ base } = await makeOwnSeries(tree, mbox));
});

const PROFILE: Profile = {
  name: 'fake',
  description: 'fake',
  source: { debianPackage: 'linux-source-0' },
  series: null,
  fragments: ['fuse'],
  abi: 'backing-id',
  kernelFeatures: {},
  expectations: [],
};

test('own series: the mbox is what people send', async (t) => {
  const text = await readFile(mbox, 'utf8');
  for (const part of [
    /^Subject: \[PATCH v2 0\/3\] /m,
    /^Subject: \[PATCH v2 3\/3\] /m,
    /^In-Reply-To: <20260104\.v1-cover@example\.org>$/m,
    /^base-commit: [0-9a-f]{40}$/m,
    /^From: =\?UTF-8\?q\?/m,
    /^rename from fs\/fuse\/control\.c$/m,
    /^new file mode 100644$/m,
    /^Notes:$/m,
  ]) {
    t.regex(text, part);
  }
});

test('own series: cover letter, versions and notes are no patches', async (t) => {
  const { series } = await loadSeries(mbox, undefined, signal);
  t.is(series.title, OWN_SERIES_TITLE);
  t.deepEqual(
    series.patches.map(({ subject }) => subject),
    OWN_SERIES_SUBJECTS,
  );
  t.deepEqual(series.patches[0]?.files.toSorted(), [
    'fs/fuse/Makefile',
    'fs/fuse/control.c',
    'fs/fuse/fusectl.c',
  ]);
  t.false(series.patches.some(({ files }) => files.includes('is') || files.includes('this')));
});

test('own series: it builds on the tree, and the tree stays as it was', async (t) => {
  const events: RunEvent[] = [];
  const git = async (...args: readonly string[]): Promise<string> =>
    (await execOrFail('git', ['-C', tree, ...args])).stdout;
  const before = await git('status', '--porcelain', '--ignored');
  const out = join(dir, 'out');
  const image = await prepareKernel(
    { profile: PROFILE, tree, series: mbox, fragments: [], role: 'patched', keep: true },
    { emit: (event) => events.push(event), signal, out },
  );
  t.is(image.series, 'v2', 'called as its file is');
  t.is(image.role, 'patched');
  t.deepEqual(
    events.flatMap((event) => (event.type === 'patch-applied' ? [event.subject] : [])),
    OWN_SERIES_SUBJECTS,
  );
  t.is(await git('status', '--porcelain', '--ignored'), before);
  t.is((await git('rev-parse', 'HEAD')).trim(), base);
  t.true(existsSync(join(tree, 'fs/fuse/control.c')));
  t.false(existsSync(join(tree, 'fs/fuse/own_note.c')));
  const patched = join(out, 'worktree', 'fs/fuse');
  t.is(await readFile(join(patched, 'fusectl.c'), 'utf8'), FUSE['control.c'] ?? '');
  t.regex(await readFile(join(patched, 'own_note.c'), 'utf8'), /„wir“/);
  t.regex(await readFile(join(patched, 'inode.c'), 'utf8'), /fuse_own_note/);
});
