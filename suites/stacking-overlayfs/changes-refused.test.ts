import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { upperOnFuse, WORK_DIR } from '../lib/overlay-on-fuse.ts';

/** Changes to names of an overlay that the server of its upper layer refuses, at any of their steps. */

type Match = Exclude<Parameters<FuseMount['fail']>[0], string>;

interface Step {
  /** What the server refuses; `DIR` is the directory of the upper layer that the change is in. */
  readonly what: string;
  readonly opcode: Match['opcode'];
  readonly path?: string;
  readonly nth?: number;
  /** Default: what the server answers. */
  readonly gives?: string;
}

interface Change {
  readonly title: string;
  /** In a directory that has `low`, `dir/`, and in the upper layer `new`, `pure/` and a whiteout for `gone`. */
  readonly prepare?: (client: Client, at: string) => Promise<unknown>;
  readonly change: (client: Client, at: string) => Promise<string>;
  readonly steps: readonly Step[];
}

const MAKE = ['CREATE', 'MKNOD', 'TMPFILE'] as const;
const MOVE = ['RENAME', 'RENAME2'] as const;
const moved: Step = { what: 'the rename', opcode: MOVE };
const asked = (name: string): Step => ({ what: `to find ${name}`, opcode: 'LOOKUP', path: `/DIR/${name}` });
/** The same of one that there is: the walk to it asks first. */
const sought = (name: string): Step => ({ ...asked(name), nth: 2 });
/** What is in it was removed before, so that the upper one has a whiteout. */
const emptied = (client: Client, at: string) => client.unlink({ path: `${at}/dir/x` });
/** What takes the place of a directory with whiteouts before that is removed. */
const replaced = (name: string): readonly Step[] => [
  { what: 'its attributes', opcode: 'GETATTR', path: `/DIR/${name}`, nth: 1 },
  { what: 'an empty one', opcode: 'MKDIR' },
  { what: 'the list of its attributes', opcode: 'LISTXATTR' },
  { what: 'the mark of an opaque one', opcode: 'SETXATTR' },
  { what: 'its mode', opcode: 'SETATTR' },
  moved,
];

const CHANGES: readonly Change[] = [
  {
    title: 'a file where one was removed',
    change: (client, at) => client.errno.creat({ path: `${at}/gone` }),
    steps: [asked('gone'), sought('gone'), { what: 'the file', opcode: MAKE }, moved],
  },
  {
    title: 'a directory where a file was removed',
    prepare: (client, at) => client.chmod({ path: at, mode: 0o2777 }),
    change: (client, at) => client.errno.mkdir({ path: `${at}/gone` }),
    steps: [
      { what: 'the directory', opcode: 'MKDIR' },
      { what: 'its setgid bit', opcode: 'SETATTR' },
      { what: 'the mark of an opaque one', opcode: 'SETXATTR' },
      moved,
    ],
  },
  {
    title: 'a link where a file was removed',
    change: (client, at) => client.errno.link({ from: `${at}/new`, to: `${at}/gone` }),
    steps: [asked('gone'), { what: 'the link', opcode: 'LINK' }, moved],
  },
  {
    title: 'a link of a file of the lower layer',
    change: (client, at) => client.errno.link({ from: `${at}/low`, to: `${at}/made` }),
    steps: [
      { what: 'the copy of the file', opcode: MAKE },
      asked('made'),
      { what: 'the link', opcode: 'LINK', path: '/DIR/made' },
    ],
  },
  {
    title: 'an upper file removed',
    change: (client, at) => client.errno.unlink({ path: `${at}/new` }),
    steps: [sought('new'), { what: 'the removal', opcode: 'UNLINK' }],
  },
  {
    title: 'a lower file removed',
    change: (client, at) => client.errno.unlink({ path: `${at}/low` }),
    steps: [asked('low'), moved],
  },
  {
    title: 'a directory with whiteouts removed',
    prepare: emptied,
    change: (client, at) => client.errno.rmdir({ path: `${at}/dir` }),
    steps: replaced('dir'),
  },
  {
    title: 'a directory with whiteouts removed that was renamed',
    prepare: async (client, at) => {
      await emptied(client, at);
      await client.rename({ from: `${at}/dir`, to: `${at}/moved` });
    },
    change: (client, at) => client.errno.rmdir({ path: `${at}/moved` }),
    steps: replaced('moved'),
  },
  {
    title: 'a directory with whiteouts replaced',
    prepare: emptied,
    change: (client, at) => client.errno.rename({ from: `${at}/pure`, to: `${at}/dir` }),
    steps: replaced('dir'),
  },
  {
    title: 'a lower file renamed',
    change: (client, at) => client.errno.rename({ from: `${at}/low`, to: `${at}/made` }),
    steps: [{ what: 'the copy of the file', opcode: MAKE }, moved],
  },
  {
    title: 'an upper file renamed',
    change: (client, at) => client.errno.rename({ from: `${at}/new`, to: `${at}/made` }),
    steps: [sought('new'), asked('made'), sought('made'), moved],
  },
  {
    title: 'a lower directory renamed',
    change: (client, at) => client.errno.rename({ from: `${at}/dir`, to: `${at}/made` }),
    steps: [{ what: 'the copy of the directory', opcode: 'MKDIR' }, moved],
  },
  {
    title: 'a copied directory renamed',
    prepare: (client, at) => client.chmod({ path: `${at}/dir`, mode: 0o700 }),
    change: (client, at) => client.errno.rename({ from: `${at}/dir`, to: `${at}/made` }),
    steps: [{ what: 'where the lower one is', opcode: 'SETXATTR', gives: 'EXDEV' }],
  },
  {
    title: 'an upper directory that takes the place of a file in a merged one',
    prepare: (client, at) => client.mkdir({ path: `${at}/pure/deep` }),
    change: (client, at) => client.errno.rename({ from: `${at}/pure/deep`, to: `${at}/made` }),
    steps: [{ what: 'the mark of an opaque one', opcode: 'SETXATTR' }, moved],
  },
  {
    title: 'a copied file moved to a directory of the upper layer',
    prepare: (client, at) => client.chmod({ path: `${at}/low`, mode: 0o600 }),
    change: (client, at) => client.errno.rename({ from: `${at}/low`, to: `${at}/pure/low` }),
    steps: [{ what: 'the mark of a directory with such files', opcode: 'SETXATTR' }, moved],
  },
  {
    title: 'a file exchanged with a copied one',
    prepare: async (client, at) => {
      await client.chmod({ path: `${at}/low`, mode: 0o600 });
      await client.writeFile({ path: `${at}/pure/f`, data: '' });
    },
    change: (client, at) =>
      client.errno.rename({ from: `${at}/pure/f`, to: `${at}/low`, flags: 'RENAME_EXCHANGE' }),
    steps: [{ what: 'the mark of a directory with such files', opcode: 'SETXATTR' }, moved],
  },
  {
    title: 'a file exchanged with a lower one',
    change: (client, at) =>
      client.errno.rename({ from: `${at}/new`, to: `${at}/low`, flags: 'RENAME_EXCHANGE' }),
    steps: [{ what: 'the copy of the other', opcode: MAKE }, moved],
  },
  {
    title: 'a lower file exchanged with an upper one',
    change: (client, at) =>
      client.errno.rename({ from: `${at}/low`, to: `${at}/new`, flags: 'RENAME_EXCHANGE' }),
    steps: [{ what: 'the copy of the file', opcode: MAKE }, moved],
  },
  {
    title: 'a directory exchanged with a copied one',
    prepare: (client, at) => client.chmod({ path: `${at}/dir`, mode: 0o700 }),
    change: (client, at) =>
      client.errno.rename({ from: `${at}/pure`, to: `${at}/dir`, flags: 'RENAME_EXCHANGE' }),
    steps: [{ what: 'where the lower one of the other is', opcode: 'SETXATTR', gives: 'EXDEV' }, moved],
  },
  {
    title: 'a copied file linked into a directory of the upper layer',
    prepare: (client, at) => client.chmod({ path: `${at}/low`, mode: 0o600 }),
    change: (client, at) => client.errno.link({ from: `${at}/low`, to: `${at}/pure/low` }),
    steps: [{ what: 'the mark of a directory with such files', opcode: 'SETXATTR' }],
  },
];

for (const { title, prepare, change, steps } of CHANGES) {
  guestTest(`${title}: when the server refuses a step nothing has changed`, async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, 'redirect_dir=on');
    const { overlay, fuse, lower } = stack;
    for (const [nth, step] of steps.entries()) {
      const name = `d${nth}`;
      const at = overlay.file(name);
      await fill(client, lower, [
        `${name}/`,
        ...['low', 'gone', 'dir/', 'dir/x'].map((each) => `${name}/${each}`),
      ]);
      await client.unlink({ path: `${at}/gone` });
      await client.writeFile({ path: `${at}/new`, data: 'new' });
      await client.mkdir({ path: `${at}/pure` });
      await prepare?.(client, at);
      const tree = async () =>
        (await client.tree({ path: at })).map(({ path, ino, content }) => ({ path, ino, content }));
      const before = await tree();
      const match = { opcode: step.opcode, path: step.path?.replace('DIR', `upper/${name}`) };
      const permit = await fuse.rule({ match, nth: step.nth, action: { do: 'error', errno: 'EDQUOT' } });
      t.is(await change(client, at), step.gives ?? 'EDQUOT', step.what);
      await permit();
      t.deepEqual(await tree(), before, `${step.what}: what there is`);
      const left = await client.readdir({ path: fuse.backing(WORK_DIR) });
      t.true(left.length <= 1, `${step.what}: left in the work directory: ${left.join(', ')}`);
      t.is(await change(client, at), 'ok', `${step.what}: allowed`);
    }
  });
}
