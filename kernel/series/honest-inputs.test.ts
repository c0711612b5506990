import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import test from 'ava';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { seriesBase } from '../source/series-base.ts';
import { loadSeries } from './load-series.ts';
import { parseMbox } from './mbox.ts';
import { parseSubject } from './subject.ts';
import { fetchThread, messageIdOf } from './message-id.ts';
import { parseTrailers } from './trailers.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-inputs-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));
const { signal } = new AbortController();

function diffOf(file: string, from: string, to: string): string {
  return `diff --git a/${file} b/${file}\n--- a/${file}\n+++ b/${file}\n@@ -1 +1 @@\n-${from}\n+${to}\n`;
}

function mail(subject: string, below = ''): string {
  const body = `Why.\n\n---\n${diffOf('f', 'a', subject.length.toString())}-- \n2.39.5\n\n${below}`;
  return `From 0123456789 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: ${subject}\n\n${body}\n`;
}

test('inputs: numbers as people write them', (t) => {
  t.like(parseSubject('[PATCH RFC v2 03/07] fuse: x'), { title: 'fuse: x', version: 2, number: 3, total: 7 });
  t.like(parseSubject('[RFC PATCH v10 00/12] cover'), { version: 10, number: 0, total: 12 });
  t.like(parseSubject('[PATCH RESEND 1/2] x'), { version: 1, number: 1, total: 2 });
});

test('inputs: order, duplicates and older versions are put right and said', (t) => {
  const [one, two] = [mail('[PATCH v2 1/2] one'), mail('[PATCH v2 2/2] twoo')];
  const series = parseMbox(
    [two, one, one, mail('[PATCH 1/2] old'), mail('[PATCH 2/2] old2')].join('\n'),
    's',
  );
  t.deepEqual(
    series.patches.map(({ subject }) => subject),
    ['one', 'twoo'],
  );
  t.deepEqual(series.notes, [
    'the thread also holds v1; v2 counts',
    'patch 1 is there more than once, with the same diff',
    'the patches came in the order 2, 1; their numbers count',
  ]);
  t.deepEqual(parseMbox([one, two].join('\n'), 's').notes, []);
});

test('inputs: a resend is the same patch whatever stands below its diff, and another diff is refused', (t) => {
  const [one, two] = [mail('[PATCH v2 1/2] one'), mail('[PATCH v2 2/2] twoo')];
  const again = two
    .replace('2.39.5', '2.47.1\n_______________________________________________\nlist mailing list')
    .replace('[PATCH v2', '[PATCH RESEND v2')
    .replace('--- a/f', 'index 1234567..89abcde 100644\n--- a/f');
  t.deepEqual(parseMbox([one, two, one, again].join('\n'), 's').notes, [
    'patches 1, 2 are there more than once, with the same diff',
  ]);
  const other = two.replace('\n+', '\n+other');
  const cut = two.replace(/\n\+[\s\S]*/, '\n');
  for (const wrong of [other, cut]) {
    const error = t.throws(() => parseMbox([one, two, wrong].join('\n'), 's'), { instanceOf: Failure });
    t.is(error.code, 'E_SERIES_MALFORMED');
    t.regex(error.message, /two different patches 2\/2/);
  }
});

test('inputs: a missing patch is named', (t) => {
  const error = t.throws(() => parseMbox([mail('[PATCH 1/3] a'), mail('[PATCH 3/3] c')].join('\n'), 's'), {
    instanceOf: Failure,
  });
  t.is(error.code, 'E_SERIES_INCOMPLETE');
  t.regex(error.message, /lacks patch 2\/3/);
});

test('inputs: numbers that a directory lacks or has in another order are said', async (t) => {
  const path = join(dir, 'numbers');
  await mkdir(path);
  await writeFile(join(path, '0001-c.patch'), mail('[PATCH 3/3] c'));
  await writeFile(join(path, '0002-a.patch'), mail('[PATCH 1/3] aa'));
  const { series } = await loadSeries(path, undefined, signal);
  t.deepEqual(series.notes, [
    'the directory lacks patch 2/3',
    'the files come in the order 3, 1 of their numbers',
  ]);
});

const commit = 'a'.repeat(40);

test('inputs: trailers of git format-patch --base are read wherever they stand', (t) => {
  const below = `base-commit: ${commit}\nprerequisite-patch-id: ${'b'.repeat(40)}\nprerequisite-patch-id: ${'c'.repeat(40)}\n`;
  const expected = { baseCommit: commit, prerequisites: ['b'.repeat(40), 'c'.repeat(40)] };
  t.deepEqual(parseTrailers(below), expected);
  t.deepEqual(
    parseMbox([mail('[PATCH 1/2] a'), mail('[PATCH 2/2] bb', below)].join('\n'), 's').trailers,
    expected,
  );
  t.deepEqual(parseTrailers('> base-commit: 1234567890\nbase-commit: no\n'), {
    baseCommit: undefined,
    prerequisites: [],
  });
});

async function repository(): Promise<{ readonly path: string; readonly head: string }> {
  const path = await mkdtemp(join(dir, 'tree-'));
  const git = (...args: readonly string[]) =>
    execOrFail('git', ['-c', 'user.name=a', '-c', 'user.email=a@example.org', ...args], { cwd: path });
  await git('init', '--quiet');
  await writeFile(join(path, 'f'), 'a\n');
  await git('add', '.');
  await git('commit', '--quiet', '--message', 'one');
  const { stdout } = await git('rev-parse', 'HEAD');
  return { path, head: stdout.trim() };
}

function seriesWith(below: string) {
  return parseMbox(mail('[PATCH] a', below), 's');
}

test('inputs: a base-commit that the tree has is where the series goes, unless the user names another', async (t) => {
  const { path, head } = await repository();
  const series = seriesWith(`base-commit: ${head}\n`);
  const request = { series, tree: path, treeLabel: 'tree', wanted: undefined, signal };
  const found = await seriesBase(request);
  t.is(found.ref, head);
  t.deepEqual(found.notes, [`put on base-commit ${head.slice(0, 12)}, which the series names`]);
  const named = await seriesBase({ ...request, wanted: 'v6.12' });
  t.is(named.ref, 'v6.12');
  t.regex(named.notes.join(), /was not used: --base or the range says v6\.12/);
});

test('inputs: a base-commit that is nowhere is explained with what was tried', async (t) => {
  const { path } = await repository();
  const series = seriesWith(`base-commit: ${commit}\n`);
  const inTree = await seriesBase({ series, tree: path, treeLabel: 'my tree', wanted: undefined, signal });
  t.is(inTree.ref, undefined);
  t.regex(inTree.notes.join(), /^base-commit aaaaaaaaaaaa is not in my tree \(asked git for it\)/);
  const without = await seriesBase({
    series,
    tree: undefined,
    treeLabel: 'linux-source',
    wanted: undefined,
    signal,
  });
  t.regex(without.notes.join(), /was not looked for, linux-source is no git repository/);
});

test('inputs: prerequisites are looked for in the tree and named when they are not there', async (t) => {
  const { path } = await repository();
  const below = `prerequisite-patch-id: ${'d'.repeat(40)}\n`;
  const request = { series: seriesWith(below), tree: path, treeLabel: 'tree', wanted: undefined, signal };
  t.regex(
    (await seriesBase(request)).notes.join(),
    /prerequisite-patch-id dddddddddddd is not among the last \d+ commits/,
  );
  const log = await execOrFail('sh', ['-c', 'git log -p | git patch-id --stable'], { cwd: path });
  const id = log.stdout.split(' ')[0] ?? '';
  const there = seriesWith(`prerequisite-patch-id: ${id}\n`);
  t.deepEqual((await seriesBase({ ...request, series: there })).notes, [
    'the 1 patch that the series wants (prerequisite-patch-id) are in the tree',
  ]);
});

test('inputs: a git range of what is no git tree, or of commits that it has not, is one clear sentence', async (t) => {
  const { path } = await repository();
  const plain = await mkdtemp(join(dir, 'plain-'));
  const none = await t.throwsAsync(loadSeries('v1..v2', plain, signal), { instanceOf: Failure });
  t.like(none, {
    code: 'E_GIT_REF',
    blame: 'user',
    message: `${plain} is no git tree, and v1..v2 is a git range`,
  });
  const absent = await t.throwsAsync(loadSeries('v1..HEAD', path, signal), { instanceOf: Failure });
  t.like(absent, { code: 'E_GIT_REF', message: `${path} has no commit "v1"` });
  const empty = await t.throwsAsync(loadSeries('HEAD..HEAD', path, signal), { instanceOf: Failure });
  t.like(empty, { code: 'E_SERIES_EMPTY', message: 'the range HEAD..HEAD has no commit' });
  const treeless = await t.throwsAsync(loadSeries('v1..v2', undefined, signal), { instanceOf: Failure });
  t.like(treeless, { code: 'E_SERIES_NOT_FOUND' });
  t.regex(treeless.hint ?? '', /add --tree DIR/);
});

test('inputs: what is a Message-ID and what is not', (t) => {
  t.is(
    messageIdOf('20210125153057.3623715-4-balsini@android.com'),
    '20210125153057.3623715-4-balsini@android.com',
  );
  t.is(messageIdOf('<a.b@c.org>'), 'a.b@c.org');
  t.is(messageIdOf('https://lore.example.org/linux-fsdevel/a.b@c.org/'), 'a.b@c.org');
  for (const other of [
    'v13.mbox',
    'v6.1..HEAD',
    './a@b',
    '--output=x@y',
    'a b@c',
    'https://lore.example.org/all/',
  ]) {
    t.is(messageIdOf(other), undefined, other);
  }
});

test.serial(
  'inputs: a Message-ID without b4, and with one that cannot fetch it, is one clear sentence',
  async (t) => {
    const before = process.env['PATH'] ?? '';
    t.teardown(() => {
      process.env['PATH'] = before;
    });
    const bin = join(dir, 'bin');
    await mkdir(bin);
    // Only sh, and nothing else.
    await symlink('/bin/sh', join(bin, 'sh'));
    process.env['PATH'] = bin;
    const missing = await t.throwsAsync(fetchThread('a@b.org', signal), { instanceOf: Failure });
    t.like(missing, { code: 'E_B4_MISSING', blame: 'infra' });

    process.env['PATH'] = `${bin}${delimiter}${before}`;
    const fake = join(bin, 'b4');
    await writeFile(
      fake,
      '#!/bin/sh\necho "Looking up" >&2\necho "Server returned an error: 404" >&2\nexit 1\n',
    );
    await chmod(fake, 0o755);
    const error = await t.throwsAsync(fetchThread('a@b.org', signal), { instanceOf: Failure });
    t.like(error, { code: 'E_B4_FAILED', blame: 'infra' });
    t.regex(error.message, /^b4 could not fetch a@b\.org: .*404/);
    await writeFile(fake, `#!/bin/sh\ncat > "$3/thread.mbx" <<'END'\n${mail('[PATCH] a')}END\n`);
    t.regex(await fetchThread('a@b.org', signal), /Subject: \[PATCH\] a/);
  },
);
