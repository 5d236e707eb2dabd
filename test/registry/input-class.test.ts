import 'reflect-metadata';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Exclude, Expose, Transform, Type } from 'class-transformer';
import {
  Allow,
  IsArray,
  IsDate,
  IsInt,
  IsNotEmpty,
  IsNotIn,
  IsOptional,
  IsString,
  MinLength,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { FunctionHandler, type EnhancedFunctionRegistry } from '../../src/index.js';
import { EnhancedFunctionRegistry as Registry } from '../../src/index.js';
import { checkParameters } from '../../src/protocol/definition.js';
import { parametersOf } from '../../src/registry/definition-from-class.js';
import type { InputClass } from '../../src/registry/input-class.js';
import { InputPipe } from '../../src/registry/input-pipe.js';
import { caught } from '../harness/caught.js';
import { Fleet } from '../harness/apps.js';
import { hosting } from '../harness/host.js';

const fleet = new Fleet();
afterEach(() => fleet.close());

class Part {
  @IsString()
  name!: string;
}

class Plain {
  @IsString()
  text!: string;

  @IsOptional()
  @IsInt()
  count?: number;

  @IsInt()
  size = 3;
}

class Allowing {
  @Allow()
  anything!: string;

  @IsNotIn(['forbidden'])
  word!: string;
}

class Exposing {
  @Expose({ name: 'full_name' })
  @IsString()
  fullName!: string;

  @Expose()
  @IsOptional()
  @IsString()
  nick = 'none';

  @Expose({ name: 'shown_as', toPlainOnly: true })
  @IsString()
  title!: string;
}

class ExposingWithDefault {
  @Expose()
  @IsInt()
  count = 1;
}

class Transforming {
  @Type(() => Date)
  @IsDate()
  at!: Date;

  @Type(() => Number)
  @IsInt()
  count!: number;

  @Transform(({ value }) => String(value).split(','))
  @IsArray()
  tags!: string[];

  @Expose()
  @Transform(({ value }: { value: unknown }) => value ?? 'none')
  @IsString()
  label!: string;

  @IsOptional()
  @IsArray()
  @ValidateNested({ each: true })
  @Type(() => Part)
  parts?: Part[];
}

class Conditional {
  @IsString()
  kind!: string;

  @ValidateIf((input: Conditional) => input.kind === 'strict')
  @IsInt()
  count!: number;

  @IsString({ validateIf: (input: Conditional) => input.kind === 'strict' })
  text!: string;
}

class Inheriting extends Transforming {
  @IsNotEmpty()
  more!: string;
}

@Exclude()
class Listing {
  @Expose({ name: 'the_id' })
  @IsString()
  id!: string;
}

/** Per class: parameters that it takes. */
const taken: readonly [InputClass, object][] = [
  [Plain, { text: 'a' }],
  [Plain, { text: 'a', count: null, size: 4 }],
  [Allowing, {}],
  [Allowing, { anything: 7, word: 'fine' }],
  [Exposing, { full_name: 'a', title: 't' }],
  [Exposing, { full_name: 'a', nick: null, title: 't' }],
  [ExposingWithDefault, { count: 2 }],
  [Transforming, { at: 1_700_000_000_000, count: '7', tags: 'a,b' }],
  [Transforming, { at: '2024-01-01', count: 7, tags: 'a', label: 'x', parts: [{ name: 'p' }] }],
  [Conditional, { kind: 'loose' }],
  [Conditional, { kind: 'loose', count: 'many', text: 7 }],
  [Conditional, { kind: 'strict', count: 7, text: 'a' }],
  [Inheriting, { at: 5, count: '7', tags: 'a,b', more: 'yes' }],
  [Listing, { the_id: 'a' }],
];

/** Per class: parameters that it refuses, and the caller refuses already. */
const refused: readonly [InputClass, object, string][] = [
  [Plain, {}, 'text'],
  [Plain, { text: null }, 'text'],
  [Plain, { text: 'a', size: 'b' }, 'size'],
  [Exposing, { title: 't' }, 'full_name'],
  [Exposing, { full_name: 'a' }, 'title'],
  [ExposingWithDefault, {}, 'count'],
  [Transforming, { at: 5, count: 7 }, 'tags'],
  [Conditional, {}, 'kind'],
  [Inheriting, { at: 5, count: '7', tags: 'a,b' }, 'more'],
  [Listing, {}, 'the_id'],
];

const violationsOf = (input: InputClass, parameters: object): readonly { parameter: string }[] =>
  checkParameters(
    { name: 'f', workflowId: 'w', parameters: parametersOf('f', input) ?? [] },
    parameters,
  );

describe('a definition that is derived from an input class', () => {
  it.each(taken)('lets through what the class takes: %p %j', async (input, parameters) => {
    await expect(new InputPipe(input, 'f').transform(parameters)).resolves.toBeInstanceOf(input);
    expect(violationsOf(input, parameters)).toEqual([]);
  });

  it.each(refused)(
    'refuses at the caller what the class refuses: %p %j',
    async (input, parameters, parameter) => {
      await expect(new InputPipe(input, 'f').transform(parameters)).rejects.toMatchObject({
        code: 'INVALID_INPUT',
      });
      expect(violationsOf(input, parameters)).toMatchObject([{ parameter }]);
    },
  );

  it('uses exposed names, checks no type where the class makes another value, and asks for nothing that is only allowed', () => {
    expect(parametersOf('f', Exposing)).toEqual([
      { name: 'full_name', type: 'string', required: true },
      { name: 'nick', type: 'string', required: false },
      { name: 'title', type: 'string', required: true },
    ]);
    expect(parametersOf('f', Allowing)?.[0]).toEqual({
      name: 'anything',
      type: 'any',
      required: false,
    });
    expect(parametersOf('f', Transforming)?.map(({ type }) => type)).toEqual(
      Array.from({ length: 5 }, () => 'any'),
    );
  });

  class Versioned {
    @Expose({ name: 'old_name', until: 2 })
    @IsString()
    name!: string;
  }

  class Grouped {
    @Expose({ name: 'secret_name', groups: ['admin'] })
    @IsString()
    name!: string;
  }

  class Clashing {
    @Expose({ name: 'name' })
    @IsOptional()
    first?: string;

    @IsOptional()
    name?: string;
  }

  it.each([Versioned, Grouped, Clashing])(
    'leaves a class unchecked whose names depend on more than the class: %p',
    (input) => {
      expect(parametersOf('f', input)).toBeUndefined();
    },
  );
});

describe('an input class', () => {
  class Undecorated {
    text!: string;
  }

  class Failing {
    @IsString()
    text: string;

    constructor(source: { text: string }) {
      this.text = source.text;
    }
  }

  class Tolerant {
    @IsString()
    text!: string;

    constructor(source?: Partial<Tolerant>) {
      Object.assign(this, source);
    }
  }

  it('without any validator is refused when the decorator runs, with the cure', () => {
    expect(caught(() => FunctionHandler({ name: 'f', input: Undecorated }))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(
        /^input of f is a function \(Undecorated\) without any validator; .*@Allow\(\).*leave input out/,
      ),
    });
  });

  it('that inherits its validators is fine', () => {
    class Child extends Part {}
    expect(() => FunctionHandler({ name: 'f', input: Child })).not.toThrow();
  });

  it('whose constructor needs arguments stops the boot, and says so', async () => {
    const provider = hosting({ name: 'f', input: Failing }, () => undefined);
    await expect(fleet.start({ providers: [provider] })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(
        /^input of f is a function \(Failing\) whose constructor fails without arguments \(.*text/,
      ),
    });
  });

  it('whose constructor can do without arguments is fine', () => {
    expect(parametersOf('f', Tolerant)).toEqual([{ name: 'text', type: 'string', required: true }]);
  });

  it('that refuses its input names the function, not itself', async () => {
    class Long {
      @MinLength(5)
      text!: string;
    }
    const app = await fleet.start({
      providers: [hosting({ name: 'write', input: Long }, () => undefined)],
    });
    const registry: EnhancedFunctionRegistry = app.get(Registry);
    await expect(registry.call('write', { text: 'a' })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('The input of write was refused'),
      details: { functionName: 'write' },
    });
  });
});
