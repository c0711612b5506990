import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { RunEvent } from '#runner/lib/events.ts';
import { buildKernel } from './build-kernel.ts';
import type { BuildTree } from './build-tree.ts';

/** What a kernel's Makefile says whose symbols move between the last two passes of the link. */
const moved = `echo 'Inconsistent kallsyms data'; echo 'Try "make KALLSYMS_EXTRA_PASS=1" as a workaround'; exit 1`;

/** Builds a tree whose kernel is this one line of shell, with the real make. */
async function build(recipe: string): Promise<{ release: string; notes: readonly string[] }> {
  const source = await mkdtemp(join(tmpdir(), 'build-kernel-'));
  await using _ = { [Symbol.asyncDispose]: () => rm(source, { recursive: true }) };
  const objects = join(source, 'objects');
  await mkdir(join(objects, 'include', 'config'), { recursive: true });
  await writeFile(join(objects, 'include', 'config', 'kernel.release'), '6.12.0\n');
  await writeFile(join(source, 'Makefile'), `bzImage:\n\t@${recipe}\n`);
  const events: RunEvent[] = [];
  const tree = { source, objects, expectedSteps: undefined } as BuildTree;
  const { release } = await buildKernel(tree, 'series', (event) => events.push(event), {
    toolchain: { identity: '', arch: 'x86_64', ccache: false },
    source,
    objects,
    log: join(source, 'build.log'),
    signal: AbortSignal.timeout(60_000),
  });
  return { release, notes: events.flatMap((event) => (event.type === 'note' ? [event.text] : [])) };
}

test('build: symbols that moved between the passes of the link are no fault of the series: it links once more', async (t) => {
  const built = await build(`test -n "$(KALLSYMS_EXTRA_PASS)" || { ${moved}; }`);
  t.deepEqual(built, {
    release: '6.12.0',
    notes: ['linking once more with KALLSYMS_EXTRA_PASS=1: inconsistent kallsyms data'],
  });
});

test('build: symbols that move every time are said to', async (t) => {
  await t.throwsAsync(build(moved), { code: 'E_BUILD_FAILED', message: /Inconsistent kallsyms data/u });
});

test('build: nothing is linked twice for another error', async (t) => {
  await t.throwsAsync(
    build(`test -z "$(KALLSYMS_EXTRA_PASS)" && echo 'fs/fuse/dev.c:1:1: error: no' && exit 1`),
    {
      message: /fs\/fuse\/dev.c:1: no/u,
    },
  );
});
