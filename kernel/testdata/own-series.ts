import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOrFail } from '#runner/lib/exec.ts';

/** What a user has: a git tree, and a series for it as git writes and mail clients save it. */
export interface OwnSeries {
  /** Commit of the tree that the series is based on; the branch that is checked out. */
  readonly base: string;
  readonly mbox: string;
}

export const OWN_SERIES_TITLE = 'fuse: rename, add and change';
export const OWN_SERIES_SUBJECTS = [
  'fuse: move the control filesystem to fusectl.c',
  'fuse: add a note of who built this – naïvely',
  'fuse: print the note when the module starts',
];
/** What the third patch has the kernel say when it starts. */
export const OWN_SERIES_NOTE = 'fuse: own series, init (API version';

/**
 * Commits what is in `tree` (fs/fuse of a kernel at least), then writes three patches on top of it to `mbox`:
 * version 2, in reply to the first, with cover letter, `base-commit:`, notes below `---`, authors with letters
 * from beyond ASCII; one renames a file, one adds one. The tree is left at its base.
 */
export async function makeOwnSeries(tree: string, mbox: string): Promise<OwnSeries> {
  await git(tree, ['init', '-q', '-b', 'main']);
  // A .gitignore in a kernel tree hides files that a distribution ships.
  await git(tree, ['add', '--force', '.']);
  await commit(tree, 'Integrator <integrator@example.org>', 'base');
  const base = (await git(tree, ['rev-parse', 'HEAD'])).trim();
  await git(tree, ['checkout', '-q', '-b', 'topic']);
  await renameFile(tree);
  await addFile(tree);
  await changeFile(tree);
  await git(tree, ['config', 'branch.topic.description', `${OWN_SERIES_TITLE}\n\nGrüße aus Łódź.`]);
  const threading = ['--thread=shallow', '--in-reply-to=<20260104.v1-cover@example.org>', '--subject-prefix=PATCH'];
  const mails = await git(tree, [
    ...['format-patch', '--stdout', '--cover-letter', '--cover-from-description=subject', '-v2', '-M'],
    ...[...threading, '--notes', `--base=${base}`, `${base}..topic`],
  ]);
  await writeFile(mbox, mails);
  await git(tree, ['checkout', '-q', 'main']);
  return { base, mbox };
}

async function renameFile(tree: string): Promise<void> {
  await git(tree, ['mv', 'fs/fuse/control.c', 'fs/fuse/fusectl.c']);
  await replace(join(tree, 'fs/fuse/Makefile'), 'control.o', 'fusectl.o');
  await commit(tree, 'Žofie Řeháková <zofie@example.org>', OWN_SERIES_SUBJECTS[0] ?? '');
  await git(tree, ['notes', 'add', '-m', 'v2:\n - the Makefile as well (李)\n - no functional change']);
}

async function addFile(tree: string): Promise<void> {
  const text = [
    '// SPDX-License-Identifier: GPL-2.0\n/* Who built this: „wir“ */\n',
    '#include "fuse_i.h"\n\nconst char fuse_own_note[] = "own series, ";\n',
  ];
  await writeFile(join(tree, 'fs/fuse/own_note.c'), text.join('\n'));
  await appendFile(join(tree, 'fs/fuse/Makefile'), '\nfuse-y += own_note.o\n');
  await replace(join(tree, 'fs/fuse/fuse_i.h'), '#endif /* _FS_FUSE_I_H */', 'extern const char fuse_own_note[];\n\n#endif /* _FS_FUSE_I_H */');
  await commit(tree, '李小龍 <li@example.org>', OWN_SERIES_SUBJECTS[1] ?? '');
}

async function changeFile(tree: string): Promise<void> {
  const inode = join(tree, 'fs/fuse/inode.c');
  await replace(inode, 'pr_info("init (API version %i.%i)\\n",', 'pr_info("%sinit (API version %i.%i)\\n", fuse_own_note,');
  await commit(tree, 'Ångström, Björn <bjorn@example.org>', OWN_SERIES_SUBJECTS[2] ?? '');
  await git(tree, ['notes', 'add', '-m', 'v2: diff --git a/this b/is only text\n--- a/and\n+++ b/this']);
}

/** @throws Error when the file does not have that text: the series would not be what it says. */
async function replace(file: string, from: string, to: string): Promise<void> {
  const text = await readFile(file, 'utf8');
  if (!text.includes(from)) throw new Error(`${file} has no ${JSON.stringify(from)}`);
  await writeFile(file, text.replace(from, to));
}

async function commit(tree: string, author: string, subject: string): Promise<void> {
  await git(tree, ['add', '--force', '--all', 'fs/fuse']);
  const message = `${subject}\n\nBecause a user would. Ünïcödé in the body, too.\n\nSigned-off-by: ${author}`;
  const who = author.replace(', ', ' ');
  await git(tree, ['commit', '-q', '--allow-empty', `--author=${who}`, '-m', message]);
}

async function git(tree: string, args: readonly string[]): Promise<string> {
  const identity = { NAME: 'Integrator', EMAIL: 'integrator@example.org', DATE: '2026-01-05T10:00:00+0000' };
  const env = Object.fromEntries(
    ['AUTHOR', 'COMMITTER'].flatMap((role) =>
      Object.entries(identity).map(([what, value]) => [`GIT_${role}_${what}`, value]),
    ),
  );
  const isolated = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null', LC_ALL: 'C' };
  const { stdout } = await execOrFail('git', ['-C', tree, ...args], { env: { ...env, ...isolated } });
  return stdout;
}
