import { create, type Message, toBinary } from "@bufbuild/protobuf";
import {
  fileDesc,
  type GenMessage,
  type GenService,
  serviceDesc,
} from "@bufbuild/protobuf/codegenv2";
import { base64Encode } from "@bufbuild/protobuf/wire";
import {
  FileDescriptorProtoSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";

type Basket = Message<"shop.v1.Basket"> & { items: string[] };
type Method = { methodKind: "unary"; input: GenMessage<Basket>; output: GenMessage<Basket> };

/** The service of the README's examples, as `protoc-gen-es` would generate it. */
export const BasketService: GenService<{ getBasket: Method }> = serviceDesc(
  fileDesc(base64Encode(toBinary(FileDescriptorProtoSchema, describeFile()))),
  0,
);

function describeFile() {
  const type = ".shop.v1.Basket";
  return create(FileDescriptorProtoSchema, {
    ...{ name: "shop/v1/basket.proto", package: "shop.v1", syntax: "proto3" },
    messageType: [
      {
        name: "Basket",
        field: [{ name: "items", number: 1, type: Type.STRING, label: Label.REPEATED }],
      },
    ],
    service: [
      { name: "BasketService", method: [{ name: "GetBasket", inputType: type, outputType: type }] },
    ],
  });
}
