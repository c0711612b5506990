import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { ServerChannel } from 'ssh2';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { encodeFrame, FrameDecoder } from '#rootfs/protocol/frame.ts';
import type { RpcRequest } from '#rootfs/protocol/rpc.ts';
import type { RunEvent } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { BootedMachine, SshEndpoint } from '#runner/machine/machine.ts';
import { makeMachineKeys } from '#runner/machine/ssh-keys.ts';
import { deployDaemon, type DeployTimeouts } from './deploy.ts';
import type { DeployedGuest } from './guest.ts';
import { RpcFailure } from './rpc-failure.ts';
import { loopbackSshd, type Loopback } from './testdata/loopback-sshd.ts';

const DAEMON = '/* the daemon */'.repeat(500);
const root = await mkdtemp(join(tmpdir(), 'fusegate-deploy-test-'));
const bundle = { path: join(root, 'daemon.js') };
await writeFile(bundle.path, DAEMON);
test.after.always(async () => {
  await rm(root, { recursive: true, force: true });
});

const HELLO = { protocol: 1, kernelRelease: '6.12.117', node: 'v24.21.0', calibrationMs: 1.5, devFuse: true };

/** What the played agent answers; `undefined` for not at all. */
type Agent = (request: RpcRequest, channel: ServerChannel) => unknown;

const honest: Agent = ({ id, method, params }) => {
  if (method === 'hello') return { id, result: HELLO };
  if (method === 'echo') return { id, result: params };
  return { id, error: { code: 'unknown-method', message: `no method ${method}` } };
};

/** The other end of `startAgent`: first the upload, of the length that the command says, then frames. */
function playAgent(agent: Agent, uploads: string[]) {
  return (command: string, channel: ServerChannel): void => {
    const length = Number(/head -c (\d+)/.exec(command)?.[1]);
    const decoder = new FrameDecoder();
    let upload = Buffer.alloc(0);
    channel.on('data', (chunk: Buffer) => {
      const missing = length - upload.byteLength;
      upload = Buffer.concat([upload, chunk.subarray(0, missing)]);
      if (upload.byteLength < length) return;
      if (missing > 0) uploads.push(upload.toString());
      for (const request of decoder.push(chunk.subarray(Math.max(0, missing)))) {
        const answer = agent(request as RpcRequest, channel);
        if (answer !== undefined) channel.write(encodeFrame(answer));
      }
    });
  };
}

interface Played {
  readonly machine: BootedMachine;
  readonly loopback: Loopback;
  readonly uploads: readonly string[];
  readonly lose: (failure: Failure) => void;
}

async function play(t: ExecutionContext, agent: Agent = honest): Promise<Played> {
  const uploads: string[] = [];
  const onAgent = playAgent(agent, uploads);
  const loopback = await loopbackSshd((command, channel) => {
    if (command.includes('head -c')) {
      onAgent(command, channel);
      return;
    }
    if (command === 'sleep for ever') return;
    channel.stdout.write(`out of ${command}`);
    channel.stderr.write('err');
    channel.exit(7);
    channel.end();
  });
  t.teardown(async () => loopback[Symbol.asyncDispose]());
  const lost = Promise.withResolvers<Failure>();
  return { machine: machineAt(loopback.endpoint, lost.promise), loopback, uploads, lose: lost.resolve };
}

function machineAt(ssh: SshEndpoint, lost: Promise<Failure>): BootedMachine {
  return {
    id: 'm1',
    kernel: {} as KernelImage,
    accelerator: 'kvm',
    ssh,
    consolePath: '/nowhere/console.log',
    bootMs: 1234,
    lost,
    consoleOffset: async () => Promise.resolve(0),
    consoleSince: async () => Promise.resolve([]),
    [Symbol.asyncDispose]: async () => Promise.resolve(),
  };
}

const TIMEOUTS: DeployTimeouts = { connectMs: 20_000, helloMs: 20_000, silenceMs: 20_000, newsMs: 200 };

async function deploy(
  t: ExecutionContext,
  machine: BootedMachine,
  timeouts: Partial<DeployTimeouts> = {},
  events: RunEvent[] = [],
): Promise<DeployedGuest> {
  const guest = await deployDaemon(machine, bundle, {
    emit: (event) => events.push(event),
    signal: new AbortController().signal,
    slowdown: 1,
    timeouts: { ...TIMEOUTS, ...timeouts },
  });
  t.teardown(async () => guest[Symbol.asyncDispose]());
  return guest;
}

test('deploy: the bundle arrives whole, hello is answered and the machine is called ready', async (t) => {
  const { machine, uploads } = await play(t);
  const events: RunEvent[] = [];
  const guest = await deploy(t, machine, {}, events);
  t.deepEqual(uploads, [DAEMON]);
  t.is(guest.machine, machine);
  t.is(guest.slowdown, 2);
  t.deepEqual(events, [{ type: 'machine-ready', machine: 'm1', bootMs: 1234, deployMs: guest.deployMs }]);
});

test('call: answers come to who asked, in whatever order', async (t) => {
  const held: RpcRequest[] = [];
  const { machine } = await play(t, (request, channel) => {
    if (request.method !== 'echo') return honest(request, channel);
    held.push(request);
    if (held.length < 3) return undefined;
    for (const late of held.reverse()) channel.write(encodeFrame(honest(late, channel)));
    return undefined;
  });
  const guest = await deploy(t, machine);
  const answers = await Promise.all(['a', 'b', 'c'].map(async (word) => guest.call('echo', { word })));
  t.deepEqual(answers, [{ word: 'a' }, { word: 'b' }, { word: 'c' }]);
});

test('call: a refusal is an RpcFailure with the code of the agent', async (t) => {
  const { machine } = await play(t);
  const guest = await deploy(t, machine);
  const failure = await t.throwsAsync(guest.call('dance', {}), { instanceOf: RpcFailure });
  t.is(failure.code, 'unknown-method');
  t.is(failure.message, 'no method dance');
});

const mute: Agent = (request, channel) => (request.method === 'hello' ? honest(request, channel) : undefined);

test('call: a deadline ends the wait and not the connection', async (t) => {
  const { machine } = await play(t, (request, channel) =>
    request.method === 'never' ? undefined : honest(request, channel),
  );
  const guest = await deploy(t, machine);
  const failure = await t.throwsAsync(guest.call('never', {}, { timeoutMs: 30 }), { instanceOf: Failure });
  t.is(failure.code, 'E_CALL_TIMEOUT');
  t.is(await guest.call('echo', 5), 5);
});

test('call: an abort ends the wait with its reason', async (t) => {
  const { machine } = await play(t, mute);
  const guest = await deploy(t, machine);
  const controller = new AbortController();
  const waiting = guest.call('never', {}, { signal: controller.signal });
  controller.abort(new Error('enough'));
  await t.throwsAsync(waiting, { message: 'enough' });
});

test('call: the loss of the machine is the answer to everyone who waits', async (t) => {
  const { machine, lose } = await play(t, mute);
  const guest = await deploy(t, machine);
  const waiting = [guest.call('one', {}), guest.call('two', {}), guest.ssh('sleep for ever')];
  const panic = new Failure('E_KERNEL_PANIC', 'kernel', 'the kernel panicked: x');
  lose(panic);
  for (const call of waiting) t.is(await t.throwsAsync(call), panic);
});

test('call: a broken connection waits for the news of why the machine is gone', async (t) => {
  const { machine, loopback, lose } = await play(t, mute);
  const guest = await deploy(t, machine, { newsMs: 20_000 });
  const waiting = guest.call('one', {});
  loopback.cut();
  const panic = new Failure('E_KERNEL_PANIC', 'kernel', 'the kernel panicked: x');
  setTimeout(() => lose(panic), 50);
  t.is(await t.throwsAsync(waiting), panic);
});

test('call: a broken connection to a machine that lives is a failure of its own, with the console', async (t) => {
  const { machine, loopback } = await play(t, mute);
  const guest = await deploy(t, machine);
  const waiting = guest.call('one', {});
  loopback.cut();
  const failure = await t.throwsAsync(waiting, { instanceOf: Failure });
  t.is(failure.blame, 'infra');
  t.deepEqual(failure.evidence, [{ label: 'console', path: '/nowhere/console.log' }]);
});

test('deploy: an agent that dies says how', async (t) => {
  const { machine } = await play(t, (_request, channel) => {
    channel.stderr.write('Error: Cannot find module koffi\n');
    channel.exit(1);
    channel.end();
    return undefined;
  });
  const failure = await t.throwsAsync(deploy(t, machine), { instanceOf: Failure });
  t.is(failure.code, 'E_AGENT_GONE');
  t.is(failure.message, 'the agent in the guest is gone: it exited 1; Error: Cannot find module koffi');
});

test('deploy: an agent that speaks another protocol is E_PROTOCOL', async (t) => {
  const { machine } = await play(t, (_request, channel) => {
    channel.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 0]));
    return undefined;
  });
  const failure = await t.throwsAsync(deploy(t, machine), { instanceOf: Failure });
  t.is(failure.code, 'E_PROTOCOL');

  const other = await play(t, ({ id }) => ({ id, result: { ...HELLO, protocol: 2 } }));
  const mismatch = await t.throwsAsync(deploy(t, other.machine), { instanceOf: Failure });
  t.is(mismatch.code, 'E_PROTOCOL');
});

test('deploy: an agent that never answers runs into its deadline', async (t) => {
  const { machine } = await play(t, () => undefined);
  const failure = await t.throwsAsync(deploy(t, machine, { helloMs: 50 }), { instanceOf: Failure });
  t.is(failure.code, 'E_CALL_TIMEOUT');
});

test('ssh: only the host key of the machine is accepted', async (t) => {
  const { machine } = await play(t);
  const stranger = { ...machine.ssh, hostKey: makeMachineKeys().hostKey };
  const failure = await t.throwsAsync(deploy(t, { ...machine, ssh: stranger }), { instanceOf: Failure });
  t.is(failure.code, 'E_SSH_HOST_KEY');
  t.is(failure.blame, 'infra');
});

test('ssh: a port where nobody speaks is E_NO_NETWORK, one where nobody listens E_SSH_REFUSED', async (t) => {
  const { machine } = await play(t);
  const silent = createServer();
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const there = { ...machine, ssh: { ...machine.ssh, port } };
  const mutePort = await t.throwsAsync(deploy(t, there, { connectMs: 100 }), { instanceOf: Failure });
  t.is(mutePort.code, 'E_NO_NETWORK');
  t.is(mutePort.blame, 'kernel');
  silent.close();
  const nobody = await t.throwsAsync(deploy(t, there), { instanceOf: Failure });
  t.is(nobody.code, 'E_SSH_REFUSED');
});

test('ssh: a command gives its code and both outputs', async (t) => {
  const { machine } = await play(t);
  const guest = await deploy(t, machine);
  const { code, stdout, stderr } = await guest.ssh('ls');
  t.deepEqual({ code, stdout, stderr }, { code: 7, stdout: 'out of ls', stderr: 'err' });
  const failure = await t.throwsAsync(guest.ssh('sleep for ever', { timeoutMs: 30 }), {
    instanceOf: Failure,
  });
  t.is(failure.code, 'E_CALL_TIMEOUT');
});
