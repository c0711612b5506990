import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { upperOnFuse, WORK_DIR } from '../lib/overlay-on-fuse.ts';

/** What is left of a copy-up that the server of the upper layer refuses: nothing, and it may be tried again. */

type Kind = 'file' | 'directory' | 'fifo' | 'link';
type Opcodes = Exclude<Parameters<FuseMount['fail']>[0], string>['opcode'];

interface Refused {
  readonly what: string;
  readonly kind: Kind;
  readonly opcode: Opcodes;
  /** Which of those of the copy-up; default the first. */
  readonly nth?: number;
  /** Of the upper layer, with `NAME` for the name; default any. */
  readonly path?: string;
}

const MAKES = ['CREATE', 'MKNOD', 'TMPFILE'] as const;
const MOVES = ['RENAME', 'RENAME2', 'LINK'] as const;

/** Of a file: what makes it, its data, the attribute `user.word` that it has, then size, mode and owner. */
const REFUSED: readonly Refused[] = [
  { what: 'the new file', kind: 'file', opcode: MAKES },
  { what: 'the data', kind: 'file', opcode: 'WRITE' },
  { what: 'an attribute', kind: 'file', opcode: 'SETXATTR' },
  { what: 'its origin', kind: 'file', opcode: 'SETXATTR', nth: 2 },
  { what: 'the size', kind: 'file', opcode: 'SETATTR' },
  { what: 'the mode', kind: 'file', opcode: 'SETATTR', nth: 2 },
  { what: 'the owner', kind: 'file', opcode: 'SETATTR', nth: 3 },
  { what: 'the sync of the data', kind: 'file', opcode: 'FSYNC' },
  { what: 'the question for its name', kind: 'file', opcode: 'LOOKUP', path: '/upper/NAME' },
  { what: 'its name', kind: 'file', opcode: MOVES },
  { what: 'the times of the directory it goes to', kind: 'file', opcode: 'GETATTR', path: '/upper' },
  { what: 'the new directory', kind: 'directory', opcode: 'MKDIR' },
  { what: 'an attribute', kind: 'directory', opcode: 'SETXATTR' },
  { what: 'the mode', kind: 'directory', opcode: 'SETATTR' },
  { what: 'the owner', kind: 'directory', opcode: 'SETATTR', nth: 2 },
  { what: 'the question for its name', kind: 'directory', opcode: 'LOOKUP', path: '/upper/NAME' },
  { what: 'its name', kind: 'directory', opcode: MOVES },
  { what: 'the new fifo', kind: 'fifo', opcode: 'MKNOD' },
  { what: 'the new link', kind: 'link', opcode: 'SYMLINK' },
  { what: 'its name', kind: 'link', opcode: MOVES },
];

/** `target` is a directory for what the server does to a link's attributes: it does it to where the link leads. */
async function make(client: Client, kind: Kind, path: string, target: string): Promise<void> {
  if (kind === 'link') {
    await client.symlink({ path, target });
    return;
  }
  if (kind === 'file') await client.writeFile({ path, data: 'from below' });
  if (kind === 'directory') await client.mkdir({ path });
  if (kind === 'fifo') await client.mknod({ path, mode: 0o010_644 });
  await client.setxattr({ path, name: 'trusted.word', data: 'value' });
}

/** What copies it up: a new mode, and of a link, which has none, a new name. */
function change(client: Client, kind: Kind, path: string): Promise<string> {
  return kind === 'link'
    ? client.errno.rename({ from: path, to: `${path}-moved` })
    : client.errno.chmod({ path, mode: 0o640 });
}

const NO_TMPFILE = {
  match: { opcode: 'TMPFILE' },
  action: { do: 'error', errno: 'EOPNOTSUPP' },
} as const;

for (const [how, rules] of [
  ['', []],
  [' where files without a name cannot be made', [NO_TMPFILE]],
] as const) {
  guestTest(
    `a copy-up that the upper server refuses leaves nothing${how}, and works when it is allowed`,
    async (t, guest) => {
      await using client = await guest.client();
      await using stack = await upperOnFuse(guest, client, undefined, { rules });
      const { overlay, fuse, lower } = stack;
      const target = await guest.directory('ext4', 'elsewhere');
      await client.mkdir({ path: `${lower}/first` });
      await client.chmod({ path: overlay.file('first'), mode: 0o700 });
      for (const [at, { what, kind, opcode, nth, path }] of REFUSED.entries()) {
        const name = `${kind}-${at}`;
        await make(client, kind, `${lower}/${name}`, target);
        await client.lstat({ path: overlay.file(name) });
        const before = await client.readdir({ path: fuse.backing('upper') });
        const match = { opcode, path: path?.replace('NAME', name) };
        const permit = await fuse.rule({ match, nth, times: 1, action: { do: 'error', errno: 'EDQUOT' } });
        const title = `${what} of a ${kind}`;
        t.is(await change(client, kind, overlay.file(name)), 'EDQUOT', title);
        await permit();
        t.deepEqual(await client.readdir({ path: fuse.backing('upper') }), before, `${title}: upper layer`);
        t.deepEqual(await client.readdir({ path: fuse.backing(WORK_DIR) }), [], `${title}: work directory`);
        t.is(await change(client, kind, overlay.file(name)), 'ok', `${title}: allowed`);
        if (kind === 'link') continue;
        const { mode } = await client.stat({ path: fuse.backing(`upper/${name}`) });
        t.is(mode & 0o777, 0o640, `${title}: mode`);
        const word = { path: fuse.backing(`upper/${name}`), name: 'trusted.word' };
        t.is(text(await client.getxattr(word)), 'value', `${title}: attribute`);
        if (kind !== 'file') continue;
        t.is(text(await client.readFile({ path: word.path })), 'from below', `${title}: data`);
      }
    },
  );
}
