import { concat } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import { Opcode, type OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, nextRequest, type RawRequest } from '../lib/raw-server.ts';

/** The security context of what is made (SECURITY_CTX): behind the names in the requests that make something. */

const ENOENT = -2;
const EPERM = -1;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** `fuse_secctx_header`: its own size and how many contexts there are. No security module gives one here. */
const NO_CONTEXT = concat(u32(8), u32(0));

/** Makes what is called `at`, or gives that name to the file that is open as `fd`. */
type Make = (client: Client, at: string, fd: number) => Promise<string>;

/** Bytes before the context: of the struct, and of names with their NULs. */
const MAKERS: readonly (readonly [OpcodeName, number, Make])[] = [
  ['MKDIR', 8 + 2, (client, at) => client.errno.mkdir({ path: at })],
  ['MKNOD', 16 + 2, (client, at) => client.errno.mknod({ path: at, mode: 0o010_644 })],
  ['SYMLINK', 2 + 7, (client, at) => client.errno.symlink({ target: 'target', path: at })],
  ['CREATE', 16 + 2, (client, at) => client.errno.open({ path: at, flags: 'O_RDWR|O_CREAT' })],
  ['LINK', 8 + 2, (client, at, fd) => client.errno.linkFd({ fd, to: at })],
];
/** What makes no node, but gives one that there is another name. */
const WITHOUT_CONTEXT: ReadonlySet<OpcodeName> = new Set(['LINK']);

guestTest(
  'with SECURITY_CTX what is made has its security context behind its name, be it none',
  async (t, guest) => {
    for (const addFlags of [[], ['SECURITY_CTX']] as const) {
      await using fuse = await guest.mountFuse({ passthrough: 'off', init: { addFlags } });
      await using client = await guest.client();
      await using server = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const device = await fuse.server.lendDevice(server);
      await fuse.server.kill('SIGKILL');
      const asked = async (opcode: OpcodeName): Promise<RawRequest> => {
        for (;;) {
          const request = await nextRequest(server, device);
          if (request.opcode === Opcode[opcode]) return request;
          await answerRequest(server, device, { unique: request.unique, error: ENOENT });
        }
      };
      for (const [opcode, length, call] of MAKERS) {
        const making = call(client, fuse.file('x'), fd);
        making.catch(() => undefined);
        const { unique, args } = await asked(opcode);
        const none = addFlags.length === 0 || WITHOUT_CONTEXT.has(opcode);
        const context = none ? new Uint8Array() : NO_CONTEXT;
        t.deepEqual(args.subarray(length), context, `${opcode} with ${addFlags.join() || 'no flag'}`);
        await answerRequest(server, device, { unique, error: EPERM });
        t.is(await making, 'EPERM', opcode);
      }
      await fuse.abort();
    }
  },
);

const USER = 4000;
/** `fuse_ext_header`, `fuse_supp_groups` and one group, in whole words of eight bytes: FUSE_EXT_GROUPS. */
const groupOf = (gid: number): Uint8Array => concat(u32(16), u32(32), u32(1), u32(gid));

guestTest(
  'with SECURITY_CTX and CREATE_SUPP_GROUP the group of the directory stands behind the security context',
  async (t, guest) => {
    guest.needs(guest.expected.offers.includes('CREATE_SUPP_GROUP'), 'supplementary groups in requests');
    const addFlags = ['SECURITY_CTX', 'CREATE_SUPP_GROUP'] as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { addFlags }, attrValidS: LONG });
    await using client = await guest.client();
    await using server = await guest.client();
    await client.chown({ path: fuse.root, uid: 0, gid: USER });
    await client.chdir({ path: fuse.path });
    await client.stat({ path: '.' });
    await client.setCredentials({ uid: USER, gid: USER + 1, groups: [USER] });
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    const making = client.errno.mkdir({ path: 'x' });
    making.catch(() => undefined);
    for (;;) {
      const { unique, opcode, args } = await nextRequest(server, device);
      const made = opcode === Opcode.MKDIR;
      // Behind the struct and the name.
      if (made) t.deepEqual(args.subarray(8 + 2), concat(NO_CONTEXT, groupOf(USER)), 'MKDIR: what follows');
      await answerRequest(server, device, { unique, error: made ? EPERM : ENOENT });
      if (made) break;
    }
    t.is(await making, 'EPERM');
    await fuse.abort();
  },
);
